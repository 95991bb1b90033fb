"""`expfw.run`, `expfw.sweep` and `expfw.load`, as used in a notebook."""

import threading
from pathlib import Path

import numpy as np
import pytest

import expfw
from expfw.config.compose import compose
from expfw.config.overrides import format_overrides

SMALL = {"model": "mlp_keras", "dataset": "digits", "train.epochs": 2, "tracker": []}


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("python") / "runs"


@pytest.fixture(scope="module")
def result(runs_dir, processors):
    return expfw.run(SMALL, runs_dir=runs_dir, quiet=True)


@pytest.fixture(scope="module")
def swept(runs_dir, processors):
    return expfw.sweep({**SMALL, "model.units": np.array([4, 16]), "train.epochs": 1}, runs_dir=runs_dir, quiet=True)


def test_run_returns_the_metrics(result, runs_dir):
    assert (result.status, result.folder.is_relative_to(runs_dir)) == ("FINISHED", True)
    assert 0.2 < result.metrics["test/accuracy"] <= 1


def test_a_run_is_loaded_by_id_folder_or_result(result, runs_dir):
    for reference in (result, result.folder, result.run_id[:5]):
        loaded = expfw.load(reference, runs_dir)
        assert (loaded.id, loaded.status, loaded.error) == (result.run_id, "FINISHED", None)
    assert loaded.params["train.epochs"] == loaded.config.train.epochs == 2
    assert loaded.config.model["plugin"] == "mlp_keras"


def test_metrics_are_a_table_by_step(result, runs_dir):
    metrics = expfw.load(result, runs_dir).metrics
    assert metrics.index.name == "step"
    assert metrics.index.is_monotonic_increasing
    curve = metrics["val/loss"].dropna()
    assert len(curve) == 2
    assert curve.iloc[-1] == result.metrics["val/loss"]


def test_the_model_predicts_from_raw_input(result, runs_dir):
    outputs = expfw.load(result, runs_dir).model.predict(np.zeros((3, 8, 8, 1)))
    assert outputs.shape == (3, 10)
    assert outputs.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_sweep_has_a_table_with_the_best_trial_first(swept):
    assert swept.status == "FINISHED"
    assert set(swept.table["model.units"]) == {4, 16}
    assert list(swept.table["objective"]) == sorted(swept.table["objective"])
    assert swept.best.id == swept.table["run"].iloc[0]
    assert swept.report.is_file()
    assert "<table" in swept._repr_html_()


def test_a_loaded_sweep_equals_the_returned_one(swept, runs_dir):
    again = expfw.load_sweep(swept.id[:6], runs_dir)
    assert (again.status, again.table.equals(swept.table)) == ("FINISHED", True)
    with pytest.raises(expfw.NotFoundError, match=r"load_sweep"):
        expfw.load(swept.folder, runs_dir)


def test_a_run_works_in_another_thread(runs_dir, processors):
    results = []
    thread = threading.Thread(target=lambda: results.append(expfw.run(SMALL, runs_dir=runs_dir, quiet=True)))
    thread.start()
    thread.join()
    assert [run.status for run in results] == ["FINISHED"]


def test_user_errors_are_exceptions_with_advice(runs_dir):
    with pytest.raises(expfw.ConfigError, match="units"):
        expfw.run({**SMALL, "model.unit": 3}, runs_dir=runs_dir)
    with pytest.raises(expfw.ConfigError, match=r"\['model=cnn', 'train.epochs=3'\]"):
        expfw.run("model=cnn")
    with pytest.raises(expfw.ConfigError, match="expected a list of files"):
        expfw.run(SMALL, files="mine.py")
    with pytest.raises(expfw.ConfigError, match="start each process with"):
        expfw.run(["backend=multi-worker", "backend.hosts=[a:1,b:2]"], runs_dir=runs_dir)
    for several in ({"model.units": [1, 2]}, {"model.optimizer.name": ["adam", "sgd"]}, ["model.units=1,2"]):
        with pytest.raises(expfw.ConfigError, match=r"model\.\w+.*; in Python, expfw\.sweep\(\.\.\.\) tries each"):
            expfw.run(several, runs_dir=runs_dir)
    for load in (expfw.load, expfw.load_sweep):
        with pytest.raises(expfw.NotFoundError, match=r"for another runs folder: runs_dir=FOLDER$"):
            load("zzzz", runs_dir=runs_dir)


def test_values_become_overrides():
    given = {"a": None, "b": True, "c": [1, 2], "d": {"x": 1.5}, "e": np.float64(0.5), "f": Path("/a/b c")}
    assert format_overrides(given) == ["a=null", "b=true", "c=[1,2]", "d={x:1.5}", "e=0.5", 'f="/a/b c"']
    swept = {"c": np.array([1, 2]), "r": range(2), "e": "interval(1, 2)", "n": ["a b", "c"], "tracker": []}
    assert format_overrides(swept, is_sweep=True) == ["c=1,2", "r=0,1", "e=interval(1, 2)", 'n="a b",c', "tracker=[]"]


TEXTS = [
    "héllo, wörld: a=b {x}",
    "",
    "'",
    "a\\",
    "\\'b\\\\",
    "true",
    "NULL",
    "-inf",
    "1e3",
    " a ",
    "x\ny",
    "'q'",
    '"q"',
]


@pytest.mark.parametrize("text", [*TEXTS, "choice(1,2)"])
def test_a_text_is_unchanged(text):
    config = compose(format_overrides({"model": "cnn", "dataset": "digits", "name": text, "tags": {"a b": text}}))
    assert (config.name, config.tags) == (text, {"a b": text})


def test_a_backslash_escapes_an_interpolation():
    assert compose(format_overrides({"model": "cnn", "dataset": "digits", "name": r"${seed} \${y}"})).name == "0 ${y}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({3: 4}, "overrides are {3: 4}; expected a list, "),
        ({"model.units": []}, "model.units is an empty list"),
        ({"model.units": object()}, "model.units is <object .* expected None, a number, text"),
        ({"tags": {"ü": "x"}}, "invalid key 'ü' in tags; expected letters a-z"),
    ],
)
def test_an_invalid_value_is_an_error(given, message):
    with pytest.raises(expfw.ConfigError, match=message):
        format_overrides(given, is_sweep=True)


@pytest.mark.slow
def test_other_backend_options_start_a_new_process(result, runs_dir):
    other = expfw.run({**SMALL, "backend.threads": 1}, runs_dir=runs_dir, quiet=True)
    assert other.status == "FINISHED"
    assert other.run_id != result.run_id
    assert expfw.load(other, runs_dir).params["backend.threads"] == 1
    with pytest.raises(expfw.ConfigError, match="begin_from"):
        expfw.run({**SMALL, "backend.threads": 1, "train.begin_from": "nowhere"}, runs_dir=runs_dir, quiet=True)


EDITED = """
import expfw
class Edited(expfw.Dataset):
    def load(self, seed):
        raise expfw.DataError("this is the {edition} edition")
"""


def test_a_plugin_file_that_was_edited_is_read_again(runs_dir, tmp_path):
    file = tmp_path / "edited.py"
    for edition in ("first", "second"):
        file.write_text(EDITED.format(edition=edition))
        with pytest.raises(expfw.DataError, match=f"the {edition} edition"):
            expfw.run({**SMALL, "dataset": "edited"}, files=[file], runs_dir=runs_dir, quiet=True)
