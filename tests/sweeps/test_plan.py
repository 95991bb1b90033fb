"""`expfw sweep --plan`: every trial is checked and none is started; `--build`: each distinct model is tried."""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.small_datasets import write_mnist

from expfw.api.contracts import Plugin, hookimpl
from expfw.cli import plan as plan_command
from expfw.config.compose import compose
from expfw.plugins.catalogue import get_catalogue
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run
from expfw.sweeps import request as request_module
from expfw.sweeps.plan import build_table, table
from expfw.sweeps.plan.build import BuildResult, BuildResults, find_distinct_models
from expfw.sweeps.plan.build_table import count_evaluations, count_steps, estimate_sweep_seconds, estimate_trial_seconds
from expfw.sweeps.plan.distinct_models import make_step_key, strip_observers
from expfw.sweeps.plan.timing import Measurement, TrainingTimes
from expfw.sweeps.plan.trials import PreviewRow, make_preview
from expfw.tracking import run_folders
from expfw.tracking.ledger import Trial

LINE = ("dataset=line", "model=ols", "tracker=[]", "callback=[checkpoint]")


def planned(expfw_here, *words, code=0):
    done = expfw_here("sweep", "--plan", "--json", *words)
    assert done.code == code, done.err
    return json.loads(done.out)


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_it_lists_what_is_new_done_double_and_wrong(expfw_here, train, workdir):
    single = train(*LINE, "train.epochs=1")
    config = compose([*LINE, "train.epochs=2"])
    folder = run_folders.make_run_folder(workdir / "runs", "y9z7y9z7")
    trial = execute(prepare_run(config, sweep_id="y9z7y9z7", sweep_folder=folder, trial=0))
    before = files_below(workdir)
    words = (*LINE, "train.epochs=1,2,3,3,0", "name=other", "runs_dir=runs")
    found = planned(expfw_here, *words, code=2)
    assert [t["known"] for t in found["trials"]] == ["done", "done", "new", "new", "error"]
    assert [t["run_id"] for t in found["trials"]] == [single.run_id, trial.run_id, None, None, None]
    assert [t["sweep_id"] for t in found["trials"]] == [None, "y9z7y9z7", None, None, None]
    assert [t["same_as"] for t in found["trials"]] == [None, None, None, 2, None]
    assert found["trials"][1]["objective"] == trial.objective
    assert "epochs is 0; expected 1 or more" in found["trials"][4]["error"]
    assert (found["total"], found["done"], found["cannot_run"], found["starts"]) == (5, 2, 1, True)
    text = expfw_here("sweep", "--plan", *words)
    assert text.code == 2
    said = f"done: run {trial.run_id} in sweep y9z7y9z7, {trial.objective_metric} {trial.objective:.4g}"
    for line in (said, f"done: run {single.run_id}, ", "new, the same as trial 2", "cannot run: train.epochs is 0"):
        assert line in text.out
    assert "5 trials, 2 done already, 1 the same as another, 1 that cannot run;" in text.out
    last = text.out.splitlines()[-1]
    assert last.startswith("leave out the 1 that cannot run (what only fits one choice goes into sweep.space")
    assert f"the other 4 run: expfw sweep {' '.join(LINE[:2])}" in last
    assert f"all of it, new: expfw sweep {' '.join(LINE[:2])}" in expfw_here("sweep", "--plan", *LINE, "seed=1,2").out
    assert files_below(workdir) == before  # nothing was written, changed or removed


def test_nothing_is_written_where_nothing_was(expfw_here, workdir):
    assert planned(expfw_here, *LINE[:2], "train.epochs=1,2")["done"] == 0  # with the usual tracker and callbacks
    assert list(workdir.iterdir()) == []


def test_what_failed_is_not_done_and_what_was_trained_longer_is_what_it_became(expfw_here, train):
    with pytest.raises(Exception, match="the loss is"):
        train(*LINE, "model.optimizer.learning_rate=1e30")
    run = train(*LINE, "train.epochs=1")
    assert planned(expfw_here, *LINE, "model.optimizer.learning_rate=1e30,0.1")["done"] == 0
    assert expfw_here("runs", "resume", run.run_id, "train.epochs=2").code == 0
    trials = planned(expfw_here, *LINE, "train.epochs=1,2")["trials"]
    assert [t["run_id"] for t in trials] == [None, run.run_id]


def test_seeds_are_trials(expfw_here, train):
    run = train(*LINE, "train.epochs=1", "seed=5")
    found = planned(expfw_here, *LINE, "train.epochs=1,2", "seed=4", "sweep.seeds=2")
    assert [t["run_id"] for t in found["trials"]] == [None, run.run_id, None, None]
    assert [t["values"]["seed"] for t in found["trials"]] == [4, 5, 4, 5]
    assert [t["configuration"] for t in found["trials"]] == [0, 0, 1, 1]
    text = expfw_here("sweep", "--plan", *LINE, "train.epochs=1,2", "sweep.seeds=2").out
    assert "4 trials (2 configurations with 2 seeds), 0 done" in text


def test_data_that_are_not_there_are_an_error_of_their_trials(expfw_here, workdir):
    write_mnist(workdir / "there")
    found = planned(expfw_here, "dataset=mnist", "dataset.path=there,absent", code=2)
    assert [t["known"] for t in found["trials"]] == ["new", "error"]
    assert "absent" in found["trials"][1]["error"]


def test_a_first_trial_that_cannot_run_keeps_all_from_being_started(expfw_here):
    done = expfw_here("sweep", "--plan", *LINE, "train.epochs=0,1")
    assert done.code == 2
    assert "`expfw sweep` starts none: train.epochs is 0" in done.out
    assert "all of it" not in done.out
    assert expfw_here("sweep", *LINE, "train.epochs=0,1").code == 2  # as it says


def test_what_is_wrong_with_all_trials_is_one_line(expfw_here, workdir):
    done = expfw_here("sweep", "--plan", "model.unitz=1,2")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "Did you mean 'model.units'?" in done.err
    assert list(workdir.iterdir()) == []


def test_an_interrupted_sweep_by_the_same_overrides_is_offered(expfw_here, workdir):
    words = [*LINE, "train.epochs=1,2"]
    for identity, overrides in (("aaaa2222", words), ("bbbb3333", words[::-1])):
        folder = run_folders.make_run_folder(workdir / "runs", identity)
        started = {"kind": "sweep_started", "time": 1.0, "id": identity, "name": "", "overrides": overrides}
        (folder / "journal.jsonl").write_text(json.dumps(started) + "\n")
    out = expfw_here("sweep", "--plan", *words).out
    assert "by the same overrides: expfw sweeps resume aaaa2222\n" in out
    assert "bbbb3333" not in out


def test_of_many_trials_the_edges_and_what_cannot_run(workdir):
    made = make_preview([*LINE, "train.epochs=1,2"], get_catalogue())
    rows = [PreviewRow(Trial(n, "", (), [f"seed={n}"]), error="no good" if n in (70, 71) else None) for n in range(100)]
    many = dataclasses.replace(made, rows=rows, total=100)

    def shown(everything):
        text = io.StringIO()
        table.print_preview(Console(file=text, width=200, markup=False), many, everything)
        lines = [line.split() for line in text.getvalue().splitlines()]
        return [words for words in lines if words and (words[0].isdigit() or words[0] == "...")][:-1]  # a total follows

    numbers = [words[0] for words in shown(False)]
    assert numbers == [*map(str, range(20)), "...", "70", "71", "...", *map(str, range(80, 100))]
    assert "50 more" in " ".join(shown(False)[20])
    assert [words[0] for words in shown(True)] == [str(n) for n in range(100)]


def test_a_search_shows_what_it_searches(expfw_here, monkeypatch, workdir):
    def dimension(name, kind, low=None, high=None, log=False, values=(), condition=""):
        return SimpleNamespace(**vars())

    space = [
        dimension("model.optimizer.learning_rate", "float", 1e-4, 0.1, True),
        dimension("train.epochs", "values", values=["1", "2"], condition="model=ols"),
    ]
    asked_for, seeds = [], ["sweep.seeds=2"]

    def propose(number):
        asked_for.append(number)
        return [*LINE, "train.epochs=1", *seeds]

    source = SimpleNamespace(total=20, can_prune=False, propose=propose, describe=lambda: space, sampler="tpe")
    monkeypatch.setattr(request_module, "make_source", lambda *_: source)
    done = expfw_here("sweep", "--plan", *LINE, *seeds)
    assert done.code == 0, done.err
    for text in ("0.0001 to 0.1, evenly in its logarithm", "1, 2", "model=ols", "40 trials (20 configurations with 2"):
        assert text in done.out
    assert set(asked_for) == {0}  # one, to see whether it can run
    seeds.clear()
    found = planned(expfw_here, *LINE)
    assert (found["total"], found["space"][0]["high"], found["space"][1]["values"]) == (20, 0.1, ["1", "2"])
    assert "trials" not in found
    source.sampler = "grid"  # one whose trials may be given up: they are known nevertheless, as in a plain one
    assert len(planned(expfw_here, *LINE)["trials"]) == 20
    del source.sampler
    assert len(planned(expfw_here, *LINE)["trials"]) == 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--plan"), "--plan is a flag of `expfw sweep`, not of `expfw run`"),
        (("run", "--all"), "--all is a flag of `expfw sweep`"),
        (("sweep", "--build"), "--build goes with --plan"),
        (("sweep", "--all"), "--all goes with --plan"),
        (("sweep", "--plans"), "--plans"),
    ],
)
def test_flags_that_do_not_go_together(expfw_here, workdir, words, said):
    done = expfw_here(*words, *LINE)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
    assert list(workdir.iterdir()) == []


def test_help_tells_of_it_and_run_with_the_flag_for_multirun_has_it(expfw_here):
    help_text = expfw_here("sweep", "--help").out
    assert all(word in help_text for word in ("--plan", "--build", "--json", "--all"))
    assert "--plan" not in expfw_here("run", "--help").out
    assert "2 trials" in expfw_here("run", "-m", "--plan", *LINE, "train.epochs=1,2").out


DIGITS = ("dataset=digits", "model=mlp_keras", "tracker=[]")


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (["model.units=16,32", "model.optimizer.learning_rate=0.1,0.2", "train.epochs=1,2"], 2),
        (["seed=1,2", "train.evaluate_every.epochs=1,2", "objective.take=best,last"], 1),
        (["model.optimizer.momentum=0.0,0.5,0.9"], 2),  # without momentum there is nothing to remember
        (["model.optimizer.name=sgd,adam"], 2),
        (["model.optimizer.schedule.name=constant,cosine", "model.optimizer.schedule.rate=0.1,0.2"], 2),
        (["train.batch_size=32,64", "train.clip_norm=null,1.0,2.0"], 4),
        (["train.accumulate=1,2", "train.average=0.9,0.99"], 2),
        (["train.deterministic=true,false"], 2),
        (["dataset.validation=0.1,0.2"], 2),
        (["backend=tf-cpu,mirrored"], 2),
        (["callback=[],[checkpoint],[early_stopping],[augmentation]"], 2),
        (["+train.class_weight.3=1.0,2.0"], 1),
    ],
)
def test_models_are_distinct_where_network_or_step_may_differ(workdir, words, models):
    rows = make_preview([*DIGITS, *words], get_catalogue()).rows
    found = find_distinct_models(rows)
    assert len(found) == models
    assert sorted(row.trial.number for one in found for row in one.rows) == list(range(len(rows)))


def test_a_model_is_named_by_what_its_trials_share_and_built_with_the_smallest_learning_rate(workdir):
    first, second = find_distinct_models(
        make_preview([*DIGITS, "model.optimizer.learning_rate=0.5,0.1,0.9", "model.units=16,32"], get_catalogue()).rows
    )
    assert (first.name, second.name) == ("units=16", "units=32")
    assert first.request_to_build.config.model["optimizer"]["learning_rate"] == 0.1
    (only,) = find_distinct_models(make_preview([*DIGITS, "seed=1,2"], get_catalogue()).rows)
    assert only.name == "mlp_keras"


def test_what_only_watches_is_left_out_of_what_is_built(workdir):
    config = compose([*DIGITS, "callback=[checkpoint,augmentation,pictures]"])
    built = strip_observers(config, get_catalogue())
    assert (list(built.callback), built.tracker, built.quiet) == (["augmentation"], {}, True)
    assert make_step_key(prepare_run(config).request) == make_step_key(prepare_run(built).request)


@pytest.mark.parametrize(
    "words",
    [
        ["train.epochs=3"],
        ["train.epochs=5", "train.evaluate_every.epochs=2"],
        ["train.steps=20", "train.evaluate_every.steps=7"],
        ["train.steps=50", "train.batch_size=32"],
        ["train.epochs=2", "train.evaluate_every.epochs=null"],
    ],
)
def test_a_projection_counts_steps_and_evaluations_as_they_are_made(train, words):
    counted = []

    class Counting(Plugin):
        kind = "display"

        @hookimpl
        def expfw_evaluated(self, run):
            counted.append(run.steps_per_epoch)

    result = train(*DIGITS[:2], "model.units=4", *words, observers=[Counting(None, "counting")])
    config = compose([*DIGITS[:2], *words])
    assert count_steps(config, counted[0]) == result.steps
    assert count_evaluations(config, counted[0]) == len(counted)


def test_a_projection_by_hand():
    measured = Measurement(3.0, 0.01, 0.5, 1.0, 60, 20, 400.0, 0.0, 0.0)
    config = compose([*DIGITS[:2], "train.epochs=10", "train.evaluate_every.epochs=5"])
    assert estimate_trial_seconds(config, measured) == pytest.approx(3.0 + 200 * 0.01 + 2 * 0.5 + 1.0)
    assert estimate_sweep_seconds([1.0, 2.0, 3.0, 6.0], slot_count=2, server_seconds=5.0) == 5.0 + 2.0 + 6.0
    assert estimate_sweep_seconds([1.0, 1.0, 1.0], slot_count=8, server_seconds=5.0) == 5.0 + 1.0
    assert estimate_sweep_seconds([], slot_count=2, server_seconds=5.0) == 0.0


def test_what_is_compiled_is_no_pace():
    # calls: the first compiles, the second is of a single step, the fourth has the odd batch of an epoch and compiles
    pace = TrainingTimes(
        [(1, 2.01, False), (1, 0.02, False), (9, 0.09, False), (10, 1.1, True), (20, 0.2, True)], [0.8, 0.1, 0.1]
    )
    assert pace.step_seconds == pytest.approx(0.01)
    assert pace.estimate_evaluation(4) == pytest.approx(0.1)
    assert pace.estimate_compiling(4) == pytest.approx(2.0 + 1.0 + 0.7)
    assert TrainingTimes([(1, 2.01, False), (1, 0.02, False)]).step_seconds == 0.02
    assert TrainingTimes([(1, 2.0, True)]).step_seconds == 2.0  # all there is
    assert TrainingTimes([(1, 2.0, False), (1, 0.3, False)], [9.0]).estimate_evaluation(4) == pytest.approx(4 * 0.3 / 3)


FRAGILE = """
from dataclasses import dataclass
import os
import expfw
from expfw_models.ols import Ols
class Fragile(Ols):
    @dataclass
    class Config(Ols.Config):
        how: str = 'well'
    def build(self, data):
        if self.config.how == 'raise': raise RuntimeError('as told')
        if self.config.how == 'unfit': raise expfw.ConfigError('how=unfit does not fit')
        if self.config.how == 'die': os.kill(os.getpid(), 11)
        model = super().build(data)
        if self.config.how == 'step': model.test_step = lambda batch: os.kill(os.getpid(), 9)
        return model
"""


def test_each_model_is_built_and_one_that_dies_costs_itself_only(expfw_here, workdir, monkeypatch):
    (workdir / "fragile.py").write_text(FRAGILE)
    (workdir / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(workdir / "tmp"))
    words = ["dataset=line", "model=fragile", "tracker=[]", "train.epochs=5"]
    swept = ["callback=[]", "model.how=well,raise,unfit,die,step", "model.optimizer.learning_rate=0.1,0.001"]
    done = expfw_here("-p", "fragile.py", "sweep", "--plan", "--build", "--json", *words, *swept)
    assert done.code == 1, done.err
    found = json.loads(done.out)
    models = {one["name"].removeprefix("how="): one for one in found["models"]}
    assert {name: len(one["trials"]) for name, one in models.items()} == dict.fromkeys(models, 2)
    assert "RuntimeError: as told" in models["raise"]["error"]
    assert "how=unfit does not fit" in models["unfit"]["error"]
    assert "signal 11 (SIGSEGV)" in models["die"]["error"]
    assert "signal 9 (SIGKILL)" in models["step"]["error"]
    assert models["step"]["parameters"] == models["well"]["parameters"] == 2  # as far as it came
    assert models["die"]["parameters"] is None
    well = models["well"]
    assert well["error"] is None
    assert 0 < well["step_seconds"] < 1
    assert 100 < well["process_mib"] < 4000
    assert well["trial_seconds"].keys() == {"0", "1"}
    each = well["trial_seconds"]["0"]
    assert each > well["setup_seconds"] + well["ending_seconds"]
    assert found["projected"]["all"] == pytest.approx(
        found["server_seconds"] + each * (2 if found["slots"] == 1 else 1)
    )
    assert list((workdir / "tmp").glob("expfw*")) == []
    assert sorted(path.name for path in workdir.iterdir() if path.suffix) == ["fragile.py"]
    assert not (workdir / "runs").exists()


@pytest.mark.slow
def test_at_its_end_it_says_again_why_it_ends_with_which_code(expfw_here, monkeypatch):
    errors = [None, "no good"]

    def build_models(found, tell):
        return BuildResults(
            [BuildResult(one, None, None, error) for one in find_distinct_models(found.rows) for error in errors], 0.0
        )

    monkeypatch.setattr(plan_command, "build_models", build_models)
    words = (*LINE, "model.optimizer.learning_rate=0.1,-1,-2")
    done = expfw_here("sweep", "--plan", "--build", *words)
    last = "exit code 2: 2 of 3 trials cannot run, trial 1 for example: model.optimizer.learning_rate is -1.0;"
    assert (done.code, done.out.splitlines()[-1].startswith(last)) == (2, True)
    assert done.out.endswith("expected 0 or more; 1 of 2 models cannot be trained\n")
    done = expfw_here("sweep", "--plan", "--build", *LINE, "seed=1,2")
    assert (done.code, done.out.splitlines()[-1]) == (1, "exit code 1: 1 of 2 models cannot be trained")
    errors.pop()
    assert "exit code" not in expfw_here("sweep", "--plan", "--build", *LINE, "seed=1,2").out
    done = expfw_here("sweep", "--plan", "--build", *LINE, "train.epochs=0,1")
    last = "exit code 2: the first trial cannot run, so that `expfw sweep` starts none: train.epochs is 0;"
    assert (done.code, done.out.splitlines()[-1].startswith(last)) == (2, True)
    assert "exit code" not in expfw_here("sweep", "--plan", *words).out  # what is wrong stands right above


def test_another_launcher_is_asked_what_it_can_do_and_decides_where(expfw_here, workdir):
    words = (*LINE, "train.epochs=1,2", "hydra/launcher=basic")
    done = expfw_here("sweep", "--plan", *words)
    assert done.code == 0, done.err
    assert "hydra/launcher=basic decides where, and how many at a time; this was checked here" in done.out
    assert " at a time, " not in done.out
    assert done.out.splitlines()[-1].endswith("train.epochs=1,2 hydra/launcher=basic")
    found = planned(expfw_here, *words)
    assert (found["launcher"], found["slots"], found["done"]) == ("basic", None, 0)
    for word in ("sweep.slots=2", "sweep.sampler=random", "sweep.on_failure=stop"):
        refused, as_it_is = (expfw_here("sweep", *plan, *words, word) for plan in (["--plan"], []))
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == as_it_is.err
    assert list(workdir.iterdir()) == []


def test_what_another_launcher_takes_is_the_time_of_all_trials_together(workdir):
    measured = Measurement(1.0, 0.01, 0.0, 0.0, steps=5, epoch=10, memory_mib=100.0, start_time=0.0, end_time=2.0)
    here = make_preview([*LINE, "train.epochs=1,2"], get_catalogue())
    elsewhere = dataclasses.replace(here, launcher="basic", slots=here.slots[:1])
    text = io.StringIO()
    builds = BuildResults(
        [BuildResult(one, None, measured, None) for one in find_distinct_models(here.rows)], server_seconds=7.0
    )
    build_table.print_builds(Console(file=text, width=200), elsewhere, builds)
    assert build_table.to_json(elsewhere, builds)["projected"]["all"] == pytest.approx(2 * 7 + 1.1 + 1.2)
    assert "projected: 16 s for all of it, one after the other on a machine like this one" in text.getvalue()


def test_what_is_done_already_is_not_in_the_time_that_is_left(expfw_here, train):
    run = train(*LINE[:3], "callback=[]", "train.epochs=2")
    words = (*LINE[:3], "callback=[]", "train.epochs=2,3", "sweep.slots=1")
    done = expfw_here("sweep", "--plan", "--build", *words)
    assert done.code == 0, done.err
    assert f"done: run {run.run_id}" in done.out
    assert " without the trials that are done already;" in done.out
    found = planned(expfw_here, "--build", *words)
    (model,) = found["models"]
    first, second = model["trial_seconds"].values()
    assert second > first
    assert found["projected"]["all"] - found["projected"]["left"] == pytest.approx(first)
