"""`expfw sweep --plan` checks every trial and starts none; `--build` trains each distinct model for some steps."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.small_datasets import write_mnist

from expfw.api.contracts import Plugin, hookimpl
from expfw.cli import train as train_command
from expfw.config.compose import Composition, compose
from expfw.runs.one_run import execute
from expfw.runs.request import prepare_run
from expfw.sweeps.plan import table
from expfw.sweeps.plan.build import Builds, find_distinct_models
from expfw.sweeps.plan.measurement import Measurement
from expfw.sweeps.plan.trials import PreviewRow, make_preview
from expfw.sweeps.search.configuration_source import Search
from expfw.system import temporary_folders
from expfw.tracking import run_folders, run_index
from expfw.tracking.ledger import Trial

LINE = ("dataset=line", "model=ols", "tracker=[]", "callback=[checkpoint]")


def read_plan(expfw_here, *overrides, code=0):
    done = expfw_here("sweep", "--plan", "--json", *overrides)
    assert done.code == code, done.err
    return json.loads(done.out)


def list_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_plan_lists_new_finished_duplicate_and_invalid_trials(expfw_here, train, workdir):
    single = train(*LINE, "train.epochs=1")
    config = compose([*LINE, "train.epochs=2"])
    folder = run_folders.make_run_folder(workdir / "runs", "y9z7y9z7")
    trial = execute(prepare_run(config, sweep_id="y9z7y9z7", sweep_folder=folder, trial=0))
    before = list_files(workdir)
    overrides = (*LINE, "train.epochs=1,2,3,3,0", "name=other", "runs_dir=runs")
    plan = read_plan(expfw_here, *overrides, code=2)
    assert [t["known"] for t in plan["trials"]] == ["done", "done", "new", "new", "error"]
    assert [t["run_id"] for t in plan["trials"]] == [single.run_id, trial.run_id, None, None, None]
    assert [t["sweep_id"] for t in plan["trials"]] == [None, "y9z7y9z7", None, None, None]
    assert [t["same_as"] for t in plan["trials"]] == [None, None, None, 2, None]
    assert plan["trials"][1]["objective"] == trial.objective
    assert "epochs is 0; expected 1 or more" in plan["trials"][4]["error"]
    assert (plan["total"], plan["done"], plan["cannot_run"], plan["starts"]) == (5, 2, 1, True)
    text = expfw_here("sweep", "--plan", *overrides)
    assert text.code == 2
    done_line = f"done: run {trial.run_id} in sweep y9z7y9z7, {trial.objective_metric} {trial.objective:.4g}"
    for line in (done_line, f"done: run {single.run_id}, ", "new, same as trial 2", "cannot run: train.epochs is 0"):
        assert line in text.out
    assert "5 trials: 2 already done, 1 duplicate, 1 cannot run;" in text.out
    run_line, exclude_line = text.out.splitlines()[-2:]
    advice = "to start the sweep anyway (trials that cannot run fail; finished trials run again): "
    assert run_line.startswith(f"{advice}expfw sweep {' '.join(LINE[:2])}")
    assert exclude_line.endswith("sweep.space")
    with_defaults = expfw_here("sweep", "--plan", *LINE[:2], "seed=1,2").out  # with the default tracker and callbacks
    assert f"to run all trials: expfw sweep {' '.join(LINE[:2])} seed=1,2" in with_defaults
    assert list_files(workdir) == before  # no file was written, changed or removed


def test_a_failed_run_is_not_done_and_a_resumed_run_counts_with_its_last_configuration(expfw_here, train):
    with pytest.raises(Exception, match="the loss is"):
        train(*LINE, "model.optimizer.learning_rate=1e30")
    run = train(*LINE, "train.epochs=1")
    assert read_plan(expfw_here, *LINE, "model.optimizer.learning_rate=1e30,0.1")["done"] == 0
    assert expfw_here("runs", "resume", run.run_id, "train.epochs=2").code == 0
    trials = read_plan(expfw_here, *LINE, "train.epochs=1,2")["trials"]
    assert [t["run_id"] for t in trials] == [None, run.run_id]


MODEL = "from expfw_models.ols import Ols\nclass Mine(Ols):\n    pass\n"
CALLBACK = "import expfw\nclass Seen(expfw.Callback):\n    pass\n"


@pytest.mark.slow
def test_a_finished_run_with_other_plugin_code_is_not_done(expfw_process, workdir, monkeypatch):
    """A model of an installed package, and a callback of a plugin file."""
    files = {
        "site/coded/__init__.py": "",
        "site/coded/layers.py": "",
        "site/coded/notes.md": "",
        "site/coded/model.py": MODEL,
        "site/coded-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: coded\nVersion: 1.0\n",
        "site/coded-1.0.dist-info/entry_points.txt": "[expfw.model]\nmine = coded.model:Mine\n",
        "seen.py": CALLBACK,
        "other.py": "",
    }
    for name, text in files.items():
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{workdir}/site:{os.environ.get('PYTHONPATH', '')}")
    options = ("dataset=line", "model=mine", "tracker=[]", "callback=[seen]")
    done = expfw_process("-p", "seen.py", "run", *options, "train.epochs=1")
    assert done.code == 0, done.err
    (run,) = run_index.list_runs(workdir / "runs")
    assert list(run.code) == ["coded", "expfw_backends", "expfw_datasets", "expfw_models", "seen.py"]

    def change_and_plan(*names):
        for name, text in files.items():
            (workdir / name).write_text(text + "# changed\n" * (name in names))
        plan = expfw_process("-p", "seen.py", "sweep", "--plan", *options, "train.epochs=1,2")
        assert plan.code == 0, plan.err
        return plan.out

    assert f"done: run {run.id}" in change_and_plan("site/coded/notes.md", "other.py")
    for name in ("site/coded/layers.py", "seen.py"):
        plan = change_and_plan(name)
        assert f"new; run {run.id} had other plugin code" in plan
        assert "2 trials: 0 already done" in plan


def test_each_seed_is_a_trial(expfw_here, train):
    run = train(*LINE, "train.epochs=1", "seed=5")
    plan = read_plan(expfw_here, *LINE, "train.epochs=1,2", "seed=4", "sweep.seeds=2")
    assert [t["run_id"] for t in plan["trials"]] == [None, run.run_id, None, None]
    assert [t["values"]["seed"] for t in plan["trials"]] == [4, 5, 4, 5]
    assert [t["configuration"] for t in plan["trials"]] == [0, 0, 1, 1]
    text = expfw_here("sweep", "--plan", *LINE, "train.epochs=1,2", "sweep.seeds=2").out
    assert "4 trials (2 configurations with 2 seeds): 0 already done" in text


def test_missing_data_is_an_error_of_the_trials_that_use_it(expfw_here, workdir):
    write_mnist(workdir / "there")
    plan = read_plan(expfw_here, "dataset=mnist", "dataset.path=there,absent", code=2)
    assert [t["known"] for t in plan["trials"]] == ["new", "error"]
    assert "absent" in plan["trials"][1]["error"]


def test_the_plan_offers_to_resume_an_interrupted_sweep_with_the_same_overrides(expfw_here, workdir):
    overrides = [*LINE, "train.epochs=1,2"]
    for sweep_id, recorded_overrides in (("aaaa2222", overrides), ("bbbb3333", overrides[::-1])):
        folder = run_folders.make_run_folder(workdir / "runs", sweep_id)
        record = {
            "kind": "sweep_started",
            "time": 1.0,
            "id": sweep_id,
            "objective": {},
            "overrides": recorded_overrides,
        }
        (folder / "journal.jsonl").write_text(json.dumps(record) + "\n")
    out = expfw_here("sweep", "--plan", *overrides).out
    assert "has the same overrides and is not finished; to resume: expfw sweeps resume aaaa2222\n" in out
    assert "bbbb3333" not in out


def test_of_many_trials_the_first_the_last_and_the_invalid_ones_are_shown(workdir):
    preview = make_preview(Composition([*LINE, "train.epochs=1,2"]))
    rows = [PreviewRow(Trial(n, "", (), [f"seed={n}"]), error="no good" if n in (70, 71) else None) for n in range(100)]
    many = dataclasses.replace(preview, rows=rows, total=100)

    def print_rows(show_all):
        text = io.StringIO()
        table.print_preview(Console(file=text, width=200, markup=False), many, show_all)
        lines = [line.split() for line in text.getvalue().splitlines()]
        return [words for words in lines if words and (words[0].isdigit() or words[0] == "...")][:-1]  # a total follows

    numbers = [words[0] for words in print_rows(False)]
    assert numbers == [*map(str, range(20)), "...", "70", "71", "...", *map(str, range(80, 100))]
    assert "50 more" in " ".join(print_rows(False)[20])
    assert [words[0] for words in print_rows(True)] == [str(n) for n in range(100)]


def test_the_plan_of_a_search_shows_its_space(expfw_here, monkeypatch, workdir):
    proposed_numbers, propose = [], Search.propose
    monkeypatch.setattr(Search, "propose", lambda search, n: proposed_numbers.append(n) or propose(search, n))
    overrides = (*LINE, "model.optimizer.learning_rate=tag(log,interval(1e-4,1e-1))", "sweep.seeds=2")
    overrides += ("sweep.space={model: {ols: {train.epochs: '1,2'}}}",)
    done = expfw_here("sweep", "--plan", *overrides)
    assert done.code == 0, done.err
    for text in ("0.0001 to 0.1, log scale", "1, 2", "model=ols", "40 trials (20 configurations with 2"):
        assert text in done.out
    assert set(proposed_numbers) == {0}  # only one, to check whether it can run
    plan = read_plan(expfw_here, *overrides)
    assert (plan["total"], plan["space"][0]["values"], plan["space"][1]["high"]) == (40, ["1", "2"], 0.1)
    assert "trials" not in plan
    assert len(read_plan(expfw_here, *LINE, "train.epochs=1,2,3", "sweep.pruner=median")["trials"]) == 3  # a grid
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--plan"), "No such option '--plan'"),
        (("sweep", "--build"), "--build and --all need --plan"),
        (("sweep", "--all"), "--build and --all need --plan"),
    ],
)
def test_invalid_combinations_of_flags_are_rejected(expfw_here, workdir, arguments, message):
    done = expfw_here(*arguments, *LINE)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert list(workdir.iterdir()) == []


DIGITS = ("dataset=digits", "model=mlp_keras", "tracker=[]")


@pytest.mark.parametrize(
    ("overrides", "models"),
    [
        (["model.units=16,32", "model.optimizer.learning_rate=0.1,0.2", "train.epochs=1,2"], 2),
        (["seed=1,2", "train.evaluate_every.epochs=1,2", "objective.take=best,last"], 1),
        (["model.optimizer.momentum=0.0,0.5,0.9"], 2),  # without momentum, the optimizer has no state for it
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
def test_models_are_distinct_if_network_or_step_may_differ(workdir, overrides, models):
    rows = make_preview(Composition([*DIGITS, *overrides])).rows
    distinct_models = find_distinct_models(rows)
    assert len(distinct_models) == models
    assert sorted(row.trial.number for model in distinct_models for row in model.rows) == list(range(len(rows)))


def test_a_build_has_the_smallest_learning_rate_and_no_observing_plugins(workdir):
    swept = ["model.optimizer.learning_rate=0.5,0.1,0.9", "model.units=16,32"]
    preview = make_preview(Composition([*DIGITS, "callback=[checkpoint,augmentation,pictures]", *swept]))
    first, second = find_distinct_models(preview.rows)
    assert (first.name, second.name) == ("units=16", "units=32")  # the overrides that their trials share
    config = first.request.config
    assert (list(config.callback), config.tracker, config.quiet) == (["augmentation"], {}, True)
    assert config.model["optimizer"]["learning_rate"] == 0.1
    (only,) = find_distinct_models(make_preview(Composition([*DIGITS, "seed=1,2"])).rows)
    assert only.name == "mlp_keras"


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.epochs=3"],
        ["train.epochs=5", "train.evaluate_every.epochs=2"],
        ["train.steps=20", "train.evaluate_every.steps=7"],
        ["train.steps=50", "train.batch_size=32"],
        ["train.epochs=2", "train.evaluate_every.epochs=null"],
    ],
)
def test_an_estimate_counts_steps_and_evaluations_as_in_a_real_run(train, overrides):
    steps_per_epoch = []

    class Counting(Plugin):
        kind = "observer"

        @hookimpl
        def expfw_evaluated(self, run):
            steps_per_epoch.append(run.steps_per_epoch)

    result = train(*DIGITS[:2], "model.units=4", *overrides, observers=[Counting(None, "counting")])
    measurement = make_measurement(setup=0.5, step=1.0, evaluation=1000.0, epoch=steps_per_epoch[0])
    seconds = measurement.estimate_seconds(compose([*DIGITS[:2], *overrides]))
    assert seconds == 0.5 + result.steps + 1000 * len(steps_per_epoch)


def make_measurement(**values):
    times = {"setup": 1.0, "step": 0.01, "evaluation": 0.0, "steps": 5, "epoch": 10, "memory_mib": 1.0, "start": 0.0}
    return Measurement(**times | values)


def test_the_projected_time_is_the_sum_over_trials_divided_by_the_slots(workdir):
    preview = make_preview(Composition([*LINE, "train.epochs=1,2,3", "sweep.slots=1"]))
    (model,) = find_distinct_models(preview.rows)
    model.measurement = make_measurement()
    builds = Builds([model], server_seconds=7.0)
    in_two_slots, in_many_slots = (dataclasses.replace(preview, slots=preview.slots * n) for n in (2, 8))
    assert builds.estimate_seconds(preview) == pytest.approx(7 + 1.1 + 1.2 + 1.3)
    assert builds.estimate_seconds(in_two_slots) == pytest.approx(7 + 1.8)
    assert builds.estimate_seconds(in_many_slots) == pytest.approx(7 + 1.3)
    assert Builds([], 0.0).estimate_seconds(preview) == 0.0
    done_row = dataclasses.replace(preview.rows[2], finished_run=SimpleNamespace())
    elsewhere = dataclasses.replace(preview, launcher="basic", rows=[*preview.rows[:2], done_row])
    assert builds.estimate_seconds(elsewhere) == pytest.approx(3 * 7 + 1.1 + 1.2 + 1.3)  # each trial imports it
    assert builds.estimate_seconds(elsewhere, finished=False) == pytest.approx(2 * 7 + 1.1 + 1.2)
    text = io.StringIO()
    table.print_builds(Console(file=text, width=200), elsewhere, builds)
    line = (
        "projected time: 25 s for all trials, 1 at a time on a machine like this one; 16 s without the trials that are"
    )
    assert f"{line} already done;" in text.getvalue()


def test_each_model_is_built_and_a_crash_affects_only_one_model(
    expfw_here, workdir, monkeypatch, fragile_file, tmp_path_factory
):
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    overrides = ["dataset=line", "model=fragile", "tracker=[]", "train.epochs=5"]
    swept = ["callback=[]", "model.how=well,fail,unfit,die,step", "model.optimizer.learning_rate=0.1,0.001"]
    done = expfw_here("-p", "fragile.py", "sweep", "--plan", "--build", "--json", *overrides, *swept)
    assert done.code == 1, done.err
    plan = json.loads(done.out)
    models = {model["name"].removeprefix("how="): model for model in plan["models"]}
    assert {name: len(model["trials"]) for name, model in models.items()} == dict.fromkeys(models, 2)
    assert "RuntimeError: as configured" in models["fail"]["error"]
    assert "how=unfit does not fit" in models["unfit"]["error"]
    assert "signal 11 (SIGSEGV)" in models["die"]["error"]
    assert "signal 9 (SIGKILL)" in models["step"]["error"]
    assert models["step"]["parameters"] == models["well"]["parameters"] == 2  # recorded before the crash
    assert models["die"]["parameters"] is None
    well = models["well"]
    assert well["error"] is None
    assert 0 < well["step_seconds"] < well["setup_seconds"] / 10  # without compilation
    assert 100 < well["process_mib"] < 4000
    assert well["trial_seconds"].keys() == {"0", "1"}
    seconds = well["trial_seconds"]["0"]
    assert seconds > well["setup_seconds"] > 0
    assert plan["projected"]["all"] == pytest.approx(
        plan["server_seconds"] + seconds * (2 if plan["slots"] == 1 else 1)
    )
    assert {*scratch.glob("expfw*")} <= {temporary_folders.get_process_folder()}
    assert sorted(path.name for path in workdir.iterdir() if path.suffix) == ["fragile.py"]
    assert not (workdir / "runs").exists()


@pytest.mark.slow
def test_the_last_line_of_a_build_explains_the_exit_code(expfw_here, monkeypatch):
    errors = [None, "no good"]

    def build_models(preview, report_progress):
        models = find_distinct_models(preview.rows)
        return Builds([dataclasses.replace(model, error=error) for model in models for error in errors], 0.0)

    monkeypatch.setattr(train_command, "build_models", build_models)
    overrides = (*LINE, "model.optimizer.learning_rate=0.1,-1,-2")
    done = expfw_here("sweep", "--plan", "--build", *overrides)
    last = "exit code 2: 2 of 3 trials cannot run; the first is trial 1: model.optimizer.learning_rate is -1.0;"
    assert (done.code, done.out.splitlines()[-1].startswith(last)) == (2, True)
    assert done.out.endswith("expected 0 or more; 1 of 2 models cannot be trained\n")
    done = expfw_here("sweep", "--plan", "--build", *LINE, "seed=1,2")
    assert (done.code, done.out.splitlines()[-1]) == (1, "exit code 1: 1 of 2 models cannot be trained")
    errors.pop()
    assert "exit code" not in expfw_here("sweep", "--plan", "--build", *LINE, "seed=1,2").out
    done = expfw_here("sweep", "--plan", "--build", *LINE, "train.epochs=0,1")
    last = "exit code 2: the first trial cannot run, so `expfw sweep` starts no trial: train.epochs is 0;"
    assert (done.code, done.out.splitlines()[-1].startswith(last)) == (2, True)
    assert "exit code" not in expfw_here("sweep", "--plan", *overrides).out  # the error is directly above


def test_another_launcher_selects_the_machines(expfw_here, workdir):
    overrides = (*LINE, "train.epochs=1,2", "hydra/launcher=basic")
    done = expfw_here("sweep", "--plan", *overrides)
    assert done.code == 0, done.err
    assert "hydra/launcher=basic selects the machines and the number of trials at a time; the plan was" in done.out
    assert " at a time, " not in done.out
    assert done.out.splitlines()[-1].endswith("train.epochs=1,2 hydra/launcher=basic")
    plan = read_plan(expfw_here, *overrides)
    assert (plan["launcher"], plan["slots"], plan["done"]) == ("basic", None, 0)
    assert list(workdir.iterdir()) == []


def test_options_of_the_sweep_may_refer_to_other_options(expfw_here):
    done = expfw_here("sweep", "--plan", *LINE, "seed=1,2", "train.epochs=7", "sweep.timeout=${train.epochs}")
    assert (done.code, done.err) == (0, "")
