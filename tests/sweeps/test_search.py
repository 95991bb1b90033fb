"""Searches: what is suggested, that it is suggested again after an interruption, and when a trial is given up."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from expfw.api.run import FAILED, FINISHED, PRUNED
from expfw.api.run_config import Sweep
from expfw.errors import ConfigError, JournalError, RunsFolderError
from expfw.sweeps.search import configuration_source as source_module
from expfw.sweeps.search.configuration_source import make_source
from expfw.sweeps.search.grid import Grid
from expfw.sweeps.search.optuna_search import Search
from expfw.sweeps.search.space_parser import read_space

PLANE = ("fixed=1", "x=interval(-1,1)", "y=interval(-1,1)")
MIXED = ("model=cnn,mlp_keras,ols", "lr=tag(log,interval(1e-5,1e-1))", "n=int(interval(4,64))", "r=range(10,0,-2)")
CONDITIONAL = {
    "model": {"cnn": {"f": "8,16,32", "o": "sgd,adam"}, "mlp_keras": {"u": "tag(log,int(interval(4,512)))"}},
    "o": {"sgd": {"momentum": "interval(0,0.99)"}},
}


def source(*arguments, folder=None, seed=0, mode="min", **settings):
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    made = Sweep(**settings)
    return make_source(read_space(parsed, made.space, seed), made, seed, mode, folder)


def values(overrides):
    return dict(override.split("=", 1) for override in overrides)


def loss(overrides):
    """Least at 0.3 in x and y, 0.001 in lr; the model matters too."""
    found = values(overrides)
    numbers = [(float(found[key]) - 0.3) ** 2 for key in ("x", "y") if key in found]
    if "lr" in found:
        numbers.append((math.log10(float(found["lr"])) + 3) ** 2 + len(found["model"]))
    return sum(numbers)


def searched(made, begin=0, until=None):
    """The configurations that were tried one after the other, each told before the next is asked for."""
    tried = []
    for number in range(begin, made.total if until is None else until):
        tried.append(list(made.propose(number)))
        made.report_result(number, loss(tried[-1]), FINISHED)
    return tried


def study(folder):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.log")))
    return optuna.load_study(study_name="expfw", storage=storage)


def states(folder):
    return [trial.state.name for trial in study(folder).trials]


# what is suggested


def test_every_suggestion_is_within_the_space(tmp_path):
    for overrides in searched(source(*MIXED, folder=tmp_path, sampler="random", trials=60)):
        found = values(overrides)
        assert list(found) == ["model", "lr", "n", "r"]
        assert found["model"] in ("cnn", "mlp_keras", "ols")
        assert 1e-5 <= float(found["lr"]) <= 1e-1
        assert 4 <= int(found["n"]) <= 64
        assert int(found["r"]) in range(10, 0, -2)


def test_a_logarithmic_interval_has_as_much_in_each_order_of_magnitude():
    tried = searched(source("model=cnn", MIXED[1], sampler="random", trials=400))
    small = sum(float(values(overrides)["lr"]) < 1e-3 for overrides in tried)
    assert 150 < small < 250


def test_only_what_its_choices_ask_for_is_in_a_configuration(tmp_path):
    tried = searched(source(*MIXED[:2], folder=tmp_path, space=CONDITIONAL, trials=60))
    shapes = {tuple(key if key not in ("model", "o") else text for key, text in values(t).items()) for t in tried}
    assert shapes == {
        ("cnn", "f", "sgd", "momentum", "lr"),
        ("cnn", "f", "adam", "lr"),
        ("mlp_keras", "u", "lr"),
        ("ols", "lr"),
    }
    for trial, overrides in zip(study(tmp_path).trials, tried, strict=True):
        assert trial.params.keys() == values(overrides).keys()


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_learning_beats_chance(sampler, mode):
    sign = 1 if mode == "min" else -1

    def mean_at_the_end(sampler):
        made = source(*PLANE, sampler=sampler, seed=3, mode=mode, trials=50)
        found = []
        for number in range(made.total):
            found.append(loss(made.propose(number)))
            made.report_result(number, sign * found[-1], FINISHED)
        return sum(found[-15:]) / 15

    assert mean_at_the_end(sampler) < mean_at_the_end("random") / 2


def test_cmaes_leaves_to_chance_what_some_trials_lack():
    tried = searched(source(*MIXED, sampler="cmaes", space=CONDITIONAL, trials=20))
    assert len({values(t)["model"] for t in tried}) == 3


def test_seeds_give_other_configurations_and_the_same_seed_the_same():
    one, same, other = (searched(source(*MIXED, seed=seed, trials=12)) for seed in (1, 1, 2))
    assert one == same
    assert not [overrides for overrides in one if overrides in other]


def test_trials_at_a_time_are_not_alike():
    made = source(*PLANE, sampler="tpe", trials=40)
    searched(made, until=20)
    together = [float(values(made.propose(number))["x"]) for number in range(20, 28)]
    assert len({round(x, 6) for x in together}) == 8


# going on after an interruption


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_a_search_that_is_interrupted_at_any_point_is_the_one_that_is_not(tmp_path, sampler):
    settings = {"sampler": sampler, "trials": 14, "startup": 4, "space": CONDITIONAL}
    expected = searched(source(*MIXED, **settings))
    for number in range(14):  # another process for each, which asks for everything once more
        made = source(*MIXED, folder=tmp_path, **settings)
        assert [list(made.propose(n)) for n in range(number)] == expected[:number]
        for n in range(number):
            made.report_result(n, loss(expected[n]), FINISHED)
        assert list(made.propose(number)) == expected[number]
        if number % 2:
            made.report_result(number, loss(expected[number]), FINISHED)
    assert len(study(tmp_path).trials) == 14


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_a_kill_within_a_suggestion_costs_nothing(tmp_path, sampler):
    settings = {"sampler": sampler, "trials": 9, "startup": 4, "space": CONDITIONAL}
    made = source(*MIXED, folder=tmp_path, **settings)
    searched(made, until=7)
    before = (tmp_path / "study.log").stat().st_size
    expected = list(made.propose(7))
    content = (tmp_path / "study.log").read_bytes()
    for kept in [
        *range(before, len(content), 151),
        *(m.end() for m in re.finditer(rb"\n", content) if m.end() > before),
    ]:
        (tmp_path / "study.log").write_bytes(content[:kept])
        again = source(*MIXED, folder=tmp_path, **settings)
        assert list(again.propose(7)) == expected
        assert len(study(tmp_path).trials) == 8


def test_a_process_that_is_killed_with_the_lock_does_not_hold_up_the_next(tmp_path):
    script = (
        f"import os, signal, pathlib, sys\nsys.path[:0] = {list(map(str, Path(__file__).parents[:2]))!r}\n"
        "from optuna.storages.journal import JournalFileOpenLock\n"
        "from test_search import PLANE, searched, source\n"
        f"made = source(*PLANE, folder=pathlib.Path({str(tmp_path)!r}), sampler='random', trials=5)\n"
        "searched(made, until=2)\n"
        f"JournalFileOpenLock({str(tmp_path / 'study.log')!r}).acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    assert (tmp_path / "study.log.lock").exists()
    made = source(*PLANE, folder=tmp_path, sampler="random", trials=5)
    assert searched(made) == searched(source(*PLANE, sampler="random", trials=5))
    assert sorted(os.listdir(tmp_path)) == ["study.log"]


def test_numbers_come_back_exactly(tmp_path):
    tried = searched(source(*PLANE, folder=tmp_path, sampler="random", trials=20))
    for trial, overrides in zip(study(tmp_path).trials, tried, strict=True):
        assert {key: float(text) for key, text in values(overrides).items() if key != "fixed"} == trial.params


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["x=interval(-2,1)", "y=interval(-1,1)"], r"has FloatDistribution\(.*low=-1.0.* for x, not"),
        (["x=1,2", "y=interval(-1,1)"], "for x, not CategoricalDistribution"),
        (["x=interval(-1,1)"], "has y for trial 0"),
        ([*PLANE, "z=interval(0,1)"], "has no z for trial 0"),
    ],
)
def test_a_study_of_something_else_is_refused(tmp_path, other, words):
    searched(source(*PLANE, folder=tmp_path, trials=2))
    with pytest.raises(JournalError, match=rf"study.log belongs to another search: it .*{words}"):
        source(*other, folder=tmp_path, sampler="tpe", trials=2).propose(0)


def test_a_study_of_the_other_mode_is_refused(tmp_path):
    searched(source(*PLANE, folder=tmp_path, trials=1))
    with pytest.raises(JournalError, match="it minimizes the objective; begin a new sweep"):
        source(*PLANE, folder=tmp_path, mode="max").propose(0)


@pytest.mark.parametrize("damage", [b"nonsense\n", b"{}\n", b'{"op_code": 77, "worker_id": "x"}\n', b"\xff\n"])
def test_a_damaged_study_is_refused(tmp_path, damage):
    searched(source(*PLANE, folder=tmp_path, trials=2))
    content = (tmp_path / "study.log").read_bytes()
    first, _, rest = content.partition(b"\n")
    (tmp_path / "study.log").write_bytes(first + b"\n" + damage + rest)
    with pytest.raises(JournalError, match=r"study\.log is damaged"):
        source(*PLANE, folder=tmp_path, trials=2).propose(0)


def test_a_trial_that_the_study_lacks_cannot_be_judged():
    with pytest.raises(JournalError, match="has no trial 3"):
        source(*PLANE).report_result(3, 0.5, FINISHED)


# what becomes of trials


def test_what_became_of_trials_is_told_once(tmp_path):
    ends = [(1.5, FINISHED), (None, FAILED), (math.nan, FINISHED), (None, FINISHED), (None, PRUNED), (-2.0, FINISHED)]
    for _ in range(3):
        made = source(*PLANE, folder=tmp_path, mode="max", trials=6, pruner="median")
        for number, (objective, status) in enumerate(ends):
            made.propose(number)
            if status == PRUNED:
                made.observe(number, 1, 0.25)
            made.report_result(number, objective, status)
    assert states(tmp_path) == ["COMPLETE", "FAIL", "FAIL", "FAIL", "PRUNED", "COMPLETE"]
    assert [trial.value for trial in study(tmp_path).trials] == [1.5, None, None, None, 0.25, -2.0]
    assert study(tmp_path).best_trial.number == 0


@pytest.mark.parametrize("watched", [True, False])
def test_a_trial_that_failed_and_is_tried_again_counts_after_all(tmp_path, watched):
    settings = {"trials": 4, "sampler": "random", "pruner": "patience"}
    made = source(*PLANE, folder=tmp_path, **settings)
    first = [list(made.propose(number)) for number in (0, 1)]
    made.observe(0, 1, 9.0)
    made.report_result(0, None, FAILED)
    made.report_result(1, 2.0, FINISHED)
    made = source(*PLANE, folder=tmp_path, **settings)
    assert [list(made.propose(number)) for number in (0, 1)] == first
    for _ in range(2):
        if watched:
            assert not made.observe(0, 1, 8.0)
        made.report_result(0, 1.0, FINISHED)
    again = made.propose(2)
    assert again == searched(source(*PLANE, **settings))[2]
    made.report_result(2, None, FAILED)
    assert states(tmp_path) == ["FAIL", "COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.value for trial in study(tmp_path).trials] == [None, 2.0, 1.0, None]
    assert study(tmp_path).best_params.keys() == {"x", "y"}
    assert float(values(first[0])["x"]) == study(tmp_path).best_params["x"]


# giving up


def curves(made, curve, numbers):
    """The evaluation at which each trial was given up, or None."""
    ends = []
    for number in numbers:
        made.propose(number)
        ends.append(None)
        for evaluation in range(1, 10):
            if made.observe(number, evaluation, curve(number, evaluation)):
                ends[-1] = evaluation
                break
        made.report_result(number, None if ends[-1] else curve(number, 9), PRUNED if ends[-1] else FINISHED)
    return ends


@pytest.mark.parametrize("sampler", ["grid", "random"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_median_gives_up_what_is_worse_than_half(tmp_path, sampler, mode):
    sign = 1 if mode == "min" else -1
    settings = {"sampler": sampler, "pruner": "median", "startup": 4, "warmup": 3, "trials": {"random": 8}.get(sampler)}
    made = source("x=1,2,3,4,5,6,7,8", folder=tmp_path, mode=mode, **settings)
    assert made.can_prune
    levels = [2, 5, 6, 3, 9, 1, 9, 2]
    ends = curves(made, lambda number, evaluation: sign * (levels[number] + 1 / evaluation), range(8))
    assert ends == [None, None, None, None, 3, None, 3, None]
    assert states(tmp_path)[4:] == ["PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_hyperband_lets_the_best_go_on(mode):
    sign = 1 if mode == "min" else -1
    made = source("x=range(54)", sampler="grid", mode=mode, pruner="hyperband")
    ends = curves(made, lambda number, evaluation: sign * (number % 9 + 1 / evaluation), range(54))
    assert [end for number, end in enumerate(ends) if number % 9 == 0] == [None] * 6
    bad = [end for number, end in enumerate(ends) if number % 9 > 4]
    assert set(bad) == {1, 3, None}  # a bracket for each; those of the last have all evaluations
    assert bad.count(None) < 8 < bad.count(1)


def test_patience_gives_up_without_a_new_best_whatever_the_others_do():
    curve = {
        0: [9, 8, 7, 6, 5, 4, 3, 2, 1],
        1: [9, 8, 8, 8, 8, 8, 8, 8, 8],
        2: [9, 8, 9, 9, 7, 9, 9, 6, 5],
        3: [math.nan] * 9,
        4: [1, 2, 3, 4, 5, 6, 7, 8, 9],
    }
    made = source("x=range(5)", pruner="patience", patience=3, sampler="grid")
    assert curves(made, lambda number, evaluation: curve[number][evaluation - 1], range(5)) == [None, 5, None, 3, 4]
    made = source("x=range(5)", pruner="patience", patience=1, warmup=4, sampler="grid", mode="max")
    assert curves(made, lambda number, evaluation: curve[number][evaluation - 1], range(5)) == [4, 4, 4, 4, None]


@pytest.mark.parametrize("pruner", ["median", "hyperband", "patience"])
def test_an_evaluation_that_comes_again_gets_the_same_answer(tmp_path, pruner):
    settings = {"folder": tmp_path, "sampler": "random", "trials": 12, "pruner": pruner, "startup": 2, "patience": 2}
    curve = [[number % 5 + (evaluation % 4) / 10 for evaluation in range(10)] for number in range(12)]
    made = source(*PLANE, **settings)
    expected = curves(made, lambda number, evaluation: curve[number][evaluation], range(11))
    assert any(expected)
    made.propose(11)
    answers = [made.observe(11, evaluation, 100.0) for evaluation in range(1, 6)]
    assert True in answers
    again = source(*PLANE, **settings)
    assert [again.observe(11, evaluation, 0.0) for evaluation in range(1, 6)] == answers
    assert again.observe(11, 6, 0.0)  # it was given up before, whatever comes
    assert [again.observe(number, 9, 0.0) for number in range(11)] == [end is not None for end in expected]


def test_without_a_pruner_nothing_is_given_up(tmp_path):
    made = source(*PLANE, folder=tmp_path)
    made.propose(0)
    assert not made.can_prune
    assert not made.observe(0, 1, math.nan)
    assert not study(tmp_path).trials[0].intermediate_values


def test_a_grid_whose_trials_may_be_given_up_is_the_same_grid(tmp_path):
    arguments = ("model=cnn,ols,mlp_keras", "r=range(6,0,-3)", "fixed=2", "t='a b',[1,2]")
    space = {"model": {"cnn": {"f": "8,16", "e": 3}}}
    plain = source(*arguments, space=space)
    expected = [list(plain.propose(number)) for number in range(plain.total)]
    assert isinstance(plain, Grid)
    for _ in range(2):
        made = source(*arguments, space=space, pruner="median", folder=tmp_path)
        assert isinstance(made, Search)
        assert [list(made.propose(number)) for number in range(made.total)] == expected
    assert study(tmp_path).trials[0].params == {"model": "cnn", "f": "8", "r": 6, "t": "'a b'"}


# which source


def test_an_interval_is_searched_by_tpe_and_a_list_is_tried_in_full():
    assert source(*PLANE).sampler == "tpe"
    assert source("model=cnn", space={"model": {"cnn": {"x": "interval(0,1)"}}}).sampler == "tpe"
    assert isinstance(source("x=1,2"), Grid)
    assert source("x=1,2", sampler="tpe").total == 20
    assert source(*PLANE, trials=7).total == 7


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (PLANE, {"sampler": "grid"}, "x is an interval, of which a grid cannot try every value"),
        (PLANE, {"sampler": "grid", "pruner": "median"}, "x is an interval"),
        (PLANE, {"seeds": 2, "pruner": "median"}, "judged together, at their end"),
        (("seed=1,2",), {"seeds": 2}, "seed is swept over, and sweep.seeds=2"),
        (("+seed=1,2",), {"seeds": 2}, "seed is swept over"),
        (("x=1",), {"sampler": "random"}, "sweep.sampler=random has nothing to choose"),
        (("x=a,b",), {"sampler": "cmaes"}, "cmaes learns about intervals"),
        (
            ("m=a,b",),
            {"sampler": "cmaes", "space": {"m": {"a": {"x": "interval(0,1)"}}}},
            "cmaes learns about intervals",
        ),
        (("sweep.trials=1,2",), {}, "sweep.trials is swept over"),
        (("x=1,2", "y=1,2,3"), {"trials": 4}, "sweep.trials=4 is for a search, but a grid tries all 6 combinations"),
        (("x=1,2",), {"trials": 4, "pruner": "median"}, "a grid tries all 2 combinations; leave it out, or take"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, settings, words):
    with pytest.raises(ConfigError, match=words):
        source(*arguments, **settings)


def test_seeds_of_a_configuration_and_its_own_seeds_go_together_without_sweeping_over_seed():
    assert source("x=1,2", "seed=3", seeds=4).total == 2


def test_cmaes_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(source_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package cmaes; install it with expfw\[search\]"):
        source(*PLANE, sampler="cmaes")


def test_a_plan_writes_nothing_and_shows_the_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = source(*MIXED, space=CONDITIONAL)
    real = source(*MIXED, space=CONDITIONAL, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    rows = [(r.name, r.kind, r.low, r.high, r.log, list(r.values), r.condition) for r in made.describe()]
    assert rows == [
        ("model", "values", None, None, False, ["cnn", "mlp_keras", "ols"], ""),
        ("f", "values", None, None, False, ["8", "16", "32"], "model=cnn"),
        ("o", "values", None, None, False, ["sgd", "adam"], "model=cnn"),
        ("momentum", "float", 0.0, 0.99, False, [], "model=cnn, o=sgd"),
        ("u", "int", 4, 512, True, [], "model=mlp_keras"),
        ("lr", "float", 1e-5, 1e-1, True, [], ""),
        ("n", "int", 4, 64, False, [], ""),
        ("r", "values", None, None, False, ["10", "8", "6", "4", "2"], ""),
    ]
    assert made.propose(0) == real.propose(0)
    assert [path.name for path in tmp_path.iterdir()] == ["study.log"]


def test_optuna_says_nothing(tmp_path, capfd):
    for sampler, pruner in (("tpe", "hyperband"), ("cmaes", "median"), ("random", "patience")):
        (tmp_path / sampler).mkdir()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            made = source(
                *MIXED,
                folder=tmp_path / sampler,
                sampler=sampler,
                pruner=pruner,
                startup=2,
                trials=8,
                space=CONDITIONAL,
            )
            curves(made, lambda number, evaluation: math.nan if number == 4 else number, range(8))
        assert heard == []
    assert capfd.readouterr() == ("", "")


def test_optuna_is_imported_when_a_search_is_asked():
    script = (
        "import sys\nfrom hydra.core.override_parser.overrides_parser import OverridesParser\n"
        "from expfw.sweeps.search.space_parser import read_space\n"
        "from expfw.sweeps.search.configuration_source import make_source\n"
        "from expfw.api.run_config import Sweep\n"
        "parsed = OverridesParser.create().parse_overrides(['x=interval(0,1)'])\n"
        "made = make_source(read_space(parsed, {}, 0), Sweep(), 0, 'min', None)\n"
        "made.describe()\nprint('optuna' in sys.modules)\n"
        "made.propose(0)\nprint('optuna' in sys.modules)\n"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).split() == ["False", "True"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(RunsFolderError, match=r"No such file or directory: .*study\.log; mend that"):
        source(*PLANE, folder=tmp_path / "absent").propose(0)


def test_optunas_own_reader_understands_the_file(tmp_path):
    searched(source(*PLANE, folder=tmp_path, trials=3))
    assert all(json.loads(line) for line in (tmp_path / "study.log").read_text().splitlines())
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "study.log", copy)
    assert study(copy).best_value == min(trial.value for trial in study(tmp_path).trials)
