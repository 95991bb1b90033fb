"""Searches: proposals, the same proposals after an interrupt, and pruning."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import warnings

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.storages.journal import JournalFileOpenLock

from expfw.api.result import FAILED, FINISHED, PRUNED
from expfw.api.run_config import Objective, RunConfig, Sweep
from expfw.errors import ConfigError, JournalError, RunsFolderError
from expfw.sweeps.search import configuration_source as source_module
from expfw.sweeps.search.configuration_source import Grid, make_source
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
    config = RunConfig(sweep=Sweep(**settings), seed=seed, objective=Objective(mode=mode))
    return make_source(read_space(parsed, config.sweep.space, seed), config, folder)


def values(overrides):
    return dict(override.split("=", 1) for override in overrides)


def loss(overrides):
    """Loss with its minimum at 0.3 in x and y and 0.001 in lr; it also depends on the model."""
    parameters = values(overrides)
    numbers = [(float(parameters[key]) - 0.3) ** 2 for key in ("x", "y") if key in parameters]
    if "lr" in parameters:
        numbers.append((math.log10(float(parameters["lr"])) + 3) ** 2 + len(parameters["model"]))
    return sum(numbers)


def run_search(search, begin=0, until=None):
    """Proposes and reports configurations one at a time; returns them."""
    tried = []
    for number in range(begin, search.total if until is None else until):
        tried.append(list(search.propose(number)))
        search.report_result(number, loss(tried[-1]), FINISHED)
    return tried


def study(folder):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.log")))
    return optuna.load_study(study_name="expfw", storage=storage)


def states(folder):
    return [trial.state.name for trial in study(folder).trials]


def test_every_proposal_is_inside_the_space_and_even_on_its_scale(tmp_path):
    tried = [values(t) for t in run_search(source(*MIXED, folder=tmp_path, sampler="random", trials=400))]
    for parameters in tried:
        assert list(parameters) == ["model", "lr", "n", "r"]
        assert parameters["model"] in ("cnn", "mlp_keras", "ols")
        assert 1e-5 <= float(parameters["lr"]) <= 1e-1
        assert 4 <= int(parameters["n"]) <= 64
        assert int(parameters["r"]) in range(10, 0, -2)
    assert 150 < sum(float(parameters["lr"]) < 1e-3 for parameters in tried) < 250  # half of the orders of magnitude


def test_a_configuration_has_only_the_conditional_keys_of_its_choices(tmp_path):
    tried = run_search(source(*MIXED[:2], folder=tmp_path, space=CONDITIONAL, trials=60))
    shapes = {tuple(key if key not in ("model", "o") else text for key, text in values(t).items()) for t in tried}
    assert shapes == {
        ("cnn", "f", "sgd", "momentum", "lr"),
        ("cnn", "f", "adam", "lr"),
        ("mlp_keras", "u", "lr"),
        ("ols", "lr"),
    }
    for trial, overrides in zip(study(tmp_path).trials, tried, strict=True):
        assert {key: str(value) for key, value in trial.params.items()} == values(overrides)  # exact numbers


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_tpe_and_cmaes_are_better_than_random(sampler, mode):
    sign = 1 if mode == "min" else -1

    def mean_at_the_end(sampler):
        search = source(*PLANE, sampler=sampler, seed=3, mode=mode, trials=50)
        losses = []
        for number in range(search.total):
            losses.append(loss(search.propose(number)))
            search.report_result(number, sign * losses[-1], FINISHED)
        return sum(losses[-15:]) / 15

    assert mean_at_the_end(sampler) < mean_at_the_end("random") / 2


def test_cmaes_samples_conditional_parameters_at_random():
    tried = run_search(source(*MIXED, sampler="cmaes", space=CONDITIONAL, trials=20))
    assert len({values(t)["model"] for t in tried}) == 3


def test_configurations_depend_only_on_the_seed():
    first, same, other = (run_search(source(*MIXED, seed=seed, trials=12)) for seed in (1, 1, 2))
    assert first == same
    assert not [overrides for overrides in first if overrides in other]


def test_parallel_trials_have_different_configurations():
    search = source(*PLANE, sampler="tpe", trials=40)
    run_search(search, until=20)
    together = [float(values(search.propose(number))["x"]) for number in range(20, 28)]
    assert len({round(x, 6) for x in together}) == 8


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_a_search_resumed_at_any_point_equals_an_uninterrupted_one(tmp_path, sampler):
    settings = {"sampler": sampler, "trials": 14, "startup": 4, "space": CONDITIONAL}
    expected = run_search(source(*MIXED, **settings))
    for number in range(14):  # each resumed process asks for all earlier proposals again
        search = source(*MIXED, folder=tmp_path, **settings)
        assert [list(search.propose(n)) for n in range(number)] == expected[:number]
        for n in range(number):
            search.report_result(n, loss(expected[n]), FINISHED)
        assert list(search.propose(number)) == expected[number]
        if number % 2:
            search.report_result(number, loss(expected[number]), FINISHED)
    assert len(study(tmp_path).trials) == 14


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_a_kill_during_a_proposal_does_not_change_the_search(tmp_path, sampler):
    settings = {"sampler": sampler, "trials": 9, "startup": 4, "space": CONDITIONAL}
    search = source(*MIXED, folder=tmp_path, **settings)
    run_search(search, until=7)
    before = (tmp_path / "study.log").stat().st_size
    expected = list(search.propose(7))
    content = (tmp_path / "study.log").read_bytes()
    for kept in [
        *range(before, len(content), 151),
        *(m.end() for m in re.finditer(rb"\n", content) if m.end() > before),
    ]:
        (tmp_path / "study.log").write_bytes(content[:kept])
        resumed = source(*MIXED, folder=tmp_path, **settings)
        assert list(resumed.propose(7)) == expected
        assert len(study(tmp_path).trials) == 8


def test_the_lock_of_a_killed_process_does_not_block_the_next_process(tmp_path):
    run_search(source(*PLANE, folder=tmp_path, sampler="random", trials=5), until=2)
    JournalFileOpenLock(str(tmp_path / "study.log")).acquire()  # a killed process does not release it
    search = source(*PLANE, folder=tmp_path, sampler="random", trials=5)
    assert run_search(search) == run_search(source(*PLANE, sampler="random", trials=5))
    assert os.listdir(tmp_path) == ["study.log"]


@pytest.mark.parametrize(
    ("other", "mode", "message"),
    [
        (["x=interval(-2,1)", "y=interval(-1,1)"], "min", 'x is .*"low": -2.0.*, was .*"low": -1.0'),
        (["x=1,2", "y=interval(-1,1)"], "min", 'x is .*"CategoricalDistribution".*, was .*"FloatDistribution"'),
        (["x=interval(-1,1)"], "min", 'y is absent, was .*"FloatDistribution"'),
        ([*PLANE, "z=interval(0,1)"], "min", 'z is .*"FloatDistribution".*, was absent'),
        (PLANE, "max", "the mode of the objective is max, was min; start a new sweep"),
    ],
)
def test_a_study_of_another_search_is_rejected(tmp_path, other, mode, message):
    run_search(source(*PLANE, folder=tmp_path, trials=2))
    with pytest.raises(JournalError, match=rf"study.log belongs to another search: {message}"):
        source(*other, folder=tmp_path, sampler="tpe", trials=2, mode=mode).propose(0)


def test_a_study_with_another_condition_of_a_parameter_is_rejected(tmp_path):
    first, second = ({"model": {model: {"x": "interval(0,1)"}}} for model in ("cnn", "ols"))
    run_search(source("model=cnn,ols", folder=tmp_path, trials=2, space=first))
    with pytest.raises(JournalError, match=r"belongs to another search: x is .* if model=ols, was .* if model=cnn;"):
        source("model=cnn,ols", folder=tmp_path, trials=2, space=second).propose(0)


@pytest.mark.parametrize(
    "damage", [b"nonsense\n", b"{}\n", b'{"op_code": 77, "worker_id": "x"}\n', b"\xff\n", b"[" * 5000 + b"\n"]
)
def test_a_damaged_study_is_rejected(tmp_path, damage):
    run_search(source(*PLANE, folder=tmp_path, trials=2))
    content = (tmp_path / "study.log").read_bytes()
    first, _, rest = content.partition(b"\n")
    (tmp_path / "study.log").write_bytes(first + b"\n" + damage + rest)
    with pytest.raises(JournalError, match=r"study\.log is damaged"):
        source(*PLANE, folder=tmp_path, trials=2).propose(0)


def test_a_study_without_end_is_not_read(tmp_path):
    (tmp_path / "study.log").touch()
    os.truncate(tmp_path / "study.log", 1 << 40)
    with pytest.raises(RunsFolderError, match=r"study\.log: larger than"):
        source(*PLANE, folder=tmp_path, trials=2).propose(0)


def test_the_study_records_each_result_once(tmp_path):
    ends = [(1.5, FINISHED), (None, FAILED), (math.nan, FINISHED), (None, FINISHED), (None, PRUNED), (-2.0, FINISHED)]
    for _ in range(3):
        search = source(*PLANE, folder=tmp_path, mode="max", trials=6, pruner="median")
        for number, (objective, status) in enumerate(ends):
            search.propose(number)
            if status == PRUNED:
                search.observe(number, 1, 0.25)
            search.report_result(number, objective, status)
    assert states(tmp_path) == ["COMPLETE", "FAIL", "FAIL", "FAIL", "PRUNED", "COMPLETE"]
    assert [trial.value for trial in study(tmp_path).trials] == [1.5, None, None, None, 0.25, -2.0]
    assert study(tmp_path).best_trial.number == 0


@pytest.mark.parametrize("observed", [True, False])
def test_the_result_of_a_retry_replaces_the_failure(tmp_path, observed):
    settings = {"trials": 4, "sampler": "random", "pruner": "patience"}
    search = source(*PLANE, folder=tmp_path, **settings)
    first = [list(search.propose(number)) for number in (0, 1)]
    search.observe(0, 1, 9.0)
    search.report_result(0, None, FAILED)
    search.report_result(1, 2.0, FINISHED)
    search = source(*PLANE, folder=tmp_path, **settings)
    assert [list(search.propose(number)) for number in (0, 1)] == first
    for _ in range(2):
        if observed:
            assert not search.observe(0, 1, 8.0)
        search.report_result(0, 1.0, FINISHED)
    assert search.propose(2) == run_search(source(*PLANE, **settings))[2]
    search.report_result(2, None, FAILED)
    assert states(tmp_path) == ["FAIL", "COMPLETE", "COMPLETE", "FAIL"]
    assert [trial.value for trial in study(tmp_path).trials] == [None, 2.0, 1.0, None]
    assert study(tmp_path).best_params.keys() == {"x", "y"}
    assert float(values(first[0])["x"]) == study(tmp_path).best_params["x"]


def run_curves(search, curve, numbers):
    """Runs trials with these learning curves; returns the evaluation at which each was pruned, or None."""
    ends = []
    for number in numbers:
        search.propose(number)
        ends.append(None)
        for evaluation in range(1, 10):
            if search.observe(number, evaluation, curve(number, evaluation)):
                ends[-1] = evaluation
                break
        search.report_result(number, None if ends[-1] else curve(number, 9), PRUNED if ends[-1] else FINISHED)
    return ends


@pytest.mark.parametrize("sampler", ["grid", "random"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_median_prunes_trials_worse_than_the_median(tmp_path, sampler, mode):
    sign = 1 if mode == "min" else -1
    settings = {"sampler": sampler, "pruner": "median", "startup": 4, "warmup": 3, "trials": {"random": 8}.get(sampler)}
    search = source("x=1,2,3,4,5,6,7,8", folder=tmp_path, mode=mode, **settings)
    assert search.can_prune
    levels = [2, 5, 6, 3, 9, 1, 9, 2]
    ends = run_curves(search, lambda number, evaluation: sign * (levels[number] + 1 / evaluation), range(8))
    assert ends == [None, None, None, None, 3, None, 3, None]
    assert states(tmp_path)[4:] == ["PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_hyperband_continues_the_best_trials(mode):
    sign = 1 if mode == "min" else -1
    search = source("x=range(54)", sampler="grid", mode=mode, pruner="hyperband")
    ends = run_curves(search, lambda number, evaluation: sign * (number % 9 + 1 / evaluation), range(54))
    assert [end for number, end in enumerate(ends) if number % 9 == 0] == [None] * 6
    bad = [end for number, end in enumerate(ends) if number % 9 > 4]
    assert set(bad) == {1, 3, None}  # one bracket each; trials of the last bracket have all evaluations
    assert bad.count(None) < 8 < bad.count(1)


def test_patience_prunes_without_a_new_best_independent_of_other_trials():
    curve = {
        0: [9, 8, 7, 6, 5, 4, 3, 2, 1],
        1: [9, 8, 8, 8, 8, 8, 8, 8, 8],
        2: [9, 8, 9, 9, 7, 9, 9, 6, 5],
        3: [math.nan] * 9,
        4: [1, 2, 3, 4, 5, 6, 7, 8, 9],
    }
    search = source("x=range(5)", pruner="patience", patience=3, sampler="grid")
    ends = run_curves(search, lambda number, evaluation: curve[number][evaluation - 1], range(5))
    assert ends == [None, 5, None, 3, 4]
    search = source("x=range(5)", pruner="patience", patience=1, warmup=4, sampler="grid", mode="max")
    ends = run_curves(search, lambda number, evaluation: curve[number][evaluation - 1], range(5))
    assert ends == [4, 4, 4, 4, None]


@pytest.mark.parametrize("pruner", ["median", "hyperband", "patience"])
def test_a_repeated_evaluation_gets_the_same_answer(tmp_path, pruner):
    settings = {"folder": tmp_path, "sampler": "random", "trials": 12, "pruner": pruner, "startup": 2, "patience": 2}
    curve = [[number % 5 + (evaluation % 4) / 10 for evaluation in range(10)] for number in range(12)]
    search = source(*PLANE, **settings)
    expected = run_curves(search, lambda number, evaluation: curve[number][evaluation], range(11))
    assert any(expected)
    search.propose(11)
    answers = [search.observe(11, evaluation, 100.0) for evaluation in range(1, 6)]
    assert True in answers
    resumed = source(*PLANE, **settings)
    assert [resumed.observe(11, evaluation, 0.0) for evaluation in range(1, 6)] == answers
    assert resumed.observe(11, 6, 0.0)  # it was already pruned
    assert [resumed.observe(number, 9, 0.0) for number in range(11)] == [end is not None for end in expected]


def test_a_grid_with_a_pruner_has_the_same_configurations(tmp_path):
    arguments = ("model=cnn,ols,mlp_keras", "r=range(6,0,-3)", "fixed=2", "t='a b',[1,2]")
    space = {"model": {"cnn": {"f": "8,16", "e": 3}}}
    plain = source(*arguments, space=space)
    expected = [list(plain.propose(number)) for number in range(plain.total)]
    assert isinstance(plain, Grid)
    for _ in range(2):
        search = source(*arguments, space=space, pruner="median", folder=tmp_path)
        assert isinstance(search, Search)
        assert [list(search.propose(number)) for number in range(search.total)] == expected
    assert study(tmp_path).trials[0].params == {"model": "cnn", "f": "8", "r": 6, "t": "'a b'"}


def test_the_default_sampler_is_tpe_for_intervals_and_grid_for_lists():
    assert (source(*PLANE).sampler, source(*PLANE).can_prune) == ("tpe", False)
    assert source("model=cnn", space={"model": {"cnn": {"x": "interval(0,1)"}}}).sampler == "tpe"
    assert isinstance(source("x=1,2"), Grid)
    totals = [source("x=1,2", sampler="tpe").total, source(*PLANE, trials=7).total]
    assert [*totals, source("x=1,2", "seed=3", seeds=4).total] == [20, 7, 2]


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (PLANE, {"sampler": "grid"}, "x is an interval; a grid needs a list of values"),
        (PLANE, {"sampler": "grid", "pruner": "median"}, "x is an interval"),
        (PLANE, {"seeds": 2, "pruner": "median"}, "sweep.pruner=median cannot be combined"),
        (("seed=1,2",), {"seeds": 2}, "seed has several values, but sweep.seeds=2"),
        (("+seed=1,2",), {"seeds": 2}, "seed has several values"),
        (("x=1",), {"sampler": "random"}, "sweep.sampler=random has no parameter to search"),
        (("x=a,b",), {"sampler": "cmaes"}, "cmaes needs an interval"),
        (("m=a,b",), {"sampler": "cmaes", "space": {"m": {"a": {"x": "interval(0,1)"}}}}, "cmaes needs an interval"),
        (("sweep.trials=1,2",), {}, "sweep.trials has several values; expected one value for the whole sweep"),
        (("x=1,2", "y=1,2,3"), {"trials": 4}, "sweep.trials=4 is only for a search, but a grid tries all 6 comb"),
        (("x=1,2",), {"trials": 4, "pruner": "median"}, "a grid tries all 2 combinations; remove it, or try 4 random"),
    ],
)
def test_contradicting_settings_are_rejected(arguments, settings, message):
    with pytest.raises(ConfigError, match=message):
        source(*arguments, **settings)


def test_cmaes_without_its_package_shows_how_to_install_it(monkeypatch):
    monkeypatch.setattr(source_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package cmaes; install it with: pip install 'expfw\[search\]'"):
        source(*PLANE, sampler="cmaes")


def test_a_source_without_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    proposed = source(*MIXED, space=CONDITIONAL).propose(0)
    real = source(*MIXED, space=CONDITIONAL, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert real.propose(0) == proposed
    assert [path.name for path in tmp_path.iterdir()] == ["study.log"]


def test_optuna_prints_nothing(tmp_path, capfd):
    for sampler, pruner in (("tpe", "hyperband"), ("cmaes", "median"), ("random", "patience")):
        (tmp_path / sampler).mkdir()
        settings = {"sampler": sampler, "pruner": pruner, "startup": 2, "trials": 8, "space": CONDITIONAL}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search = source(*MIXED, folder=tmp_path / sampler, **settings)
            run_curves(search, lambda number, evaluation: math.nan if number == 4 else number, range(8))
        assert caught == []
    assert capfd.readouterr() == ("", "")


def test_optuna_is_imported_at_the_first_proposal():
    script = (
        "import sys\nfrom hydra.core.override_parser.overrides_parser import OverridesParser\n"
        "from expfw.sweeps.search.space_parser import read_space\n"
        "from expfw.sweeps.search.configuration_source import make_source\n"
        "from expfw.api.run_config import RunConfig\n"
        "parsed = OverridesParser.create().parse_overrides(['x=interval(0,1)'])\n"
        "search = make_source(read_space(parsed, {}, 0), RunConfig(), None)\n"
        "search.space.describe()\nprint('optuna' in sys.modules)\n"
        "search.propose(0)\nprint('optuna' in sys.modules)\n"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).split() == ["False", "True"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(RunsFolderError, match=r"cannot write .*study\.log: No such file or directory; fix the problem"):
        source(*PLANE, folder=tmp_path / "absent").propose(0)
