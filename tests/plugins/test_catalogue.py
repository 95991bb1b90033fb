"""Finding, loading and refusing plugins."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

import expfw
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.kinds import KINDS

MINE = '''
from dataclasses import dataclass
import expfw

class Mine(expfw.Model):
    """A model from a plain file."""

    @dataclass
    class Config:
        units: int = expfw.option(4, help="how wide")

    def build(self, data):
        import keras
        layers = [keras.layers.Input(data.input_shape), keras.layers.Flatten(),
                  keras.layers.Dense(self.config.units, "relu"), keras.layers.Dense(data.classes, "softmax")]
        model = keras.Sequential(layers)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model
'''


@pytest.fixture
def mine(workdir):
    path = workdir / "my_model.py"
    path.write_text(MINE)
    return str(path)


def test_built_ins_come_through_the_public_door():
    found = [plugin for kind in KINDS for plugin in get_catalogue().entries[kind] if plugin.distribution == "expfw"]
    assert {(p.kind, p.name) for p in found} >= {
        ("model", "ols"),
        ("model", "mlp_layers"),
        ("model", "mlp_keras"),
        ("dataset", "line"),
        ("dataset", "digits"),
        ("dataset", "mnist"),
        ("backend", "tf-cpu"),
        ("callback", "early_stopping"),
        ("callback", "checkpoint"),
        ("callback", "tensorboard"),
        ("tracker", "mlflow"),
    }
    for plugin in found:
        assert issubclass(plugin.load(), KINDS[plugin.kind])
        assert plugin.load().__doc__


def test_dash_and_underscore_are_the_same():
    assert get_catalogue().get("backend", "tf_cpu") == get_catalogue().get("backend", "tf-cpu")


def test_a_plugin_from_a_plain_file_trains(mine, expfw_here):
    done = expfw_here("-p", mine, "run", "model=mine", "model.units=8", "train.epochs=1", "tracker=[]")
    assert done.code == 0, done.err
    assert "FINISHED  mine digits" in done.out
    assert "model.units" in expfw_here("-p", mine, "plugins", "show", "mine").out
    listed = json.loads(expfw_here("-p", mine, "plugins", "list", "--json").out)
    assert f"file {mine}" in [plugin["distribution"] for plugin in listed]


@pytest.mark.slow
def test_its_saved_model_predicts_in_another_process(mine, expfw_here, workdir):
    expfw_here("-p", mine, "run", "model=mine", "train.epochs=1", "tracker=[]")
    (folder,) = workdir.glob("runs/*/*/model")
    (workdir / "my_model.py").unlink()  # the saved model has a copy
    script = f"import expfw, numpy; print(expfw.load_model({str(folder)!r}).predict(numpy.zeros((3, 8, 8))).shape)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(3, 10)", done.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("import nonexistent_module", "cannot be imported (ModuleNotFoundError: No module named 'nonexistent_module')"),
        ("def f(:", "cannot be imported (SyntaxError"),
        ("import sys; sys.exit(3)", "cannot be imported (SystemExit: 3)"),
        ("x = 1", "defines no plugin"),
    ],
)
def test_a_file_that_is_no_plugin_is_one_line(workdir, expfw_here, content, expected):
    (workdir / "bad.py").write_text(content)
    done = expfw_here("-p", "bad.py", "run")
    assert done.code == 2
    assert expected in done.err
    assert done.err.count("\n") == 1
    assert not (workdir / "runs").exists()


def test_an_absent_file_is_one_line(expfw_here):
    done = expfw_here("-p", "nowhere.py", "plugins", "list")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "nowhere.py" in done.err


def declared(**changes):
    base = PluginEntry("model", "theirs", "expfw_models.ols:Ols", "expfw-theirs", "1.2", None)
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (declared(target="expfw_models.gone:X"), "cannot be imported (ModuleNotFoundError"),
        (declared(target="expfw_models.ols:Gone"), "cannot be imported (AttributeError"),
        (declared(target="expfw_datasets.line:Line"), "is not a subclass of expfw.Model"),
        (declared(target="expfw_datasets.cifar10:CLASSES"), "is not a subclass of expfw.Model"),
        (declared(requires="expfw>=99"), "is made for expfw>=99, this is expfw"),
    ],
)
def test_one_that_cannot_be_used_names_plugin_and_distribution(plugin, expected):
    with pytest.raises(expfw.PluginError) as caught:
        plugin.load()
    assert "'theirs' of expfw-theirs 1.2" in str(caught.value)
    assert expected in str(caught.value)


def test_a_range_that_fits_is_taken():
    assert declared(requires="expfw (>=0.1,<1)").load().__name__ == "Ols"


def test_a_config_that_is_no_dataclass_is_refused():
    class NoDataclass(expfw.Model):
        class Config:
            units = 3

    with pytest.raises(expfw.PluginError, match="not a dataclass"):
        declared(loaded=NoDataclass).load()


def test_two_of_one_name_hurt_only_those_who_choose_it(monkeypatch):
    double = Catalogue()
    found = {kind: list(plugins) for kind, plugins in double.entries.items()}
    found["model"] += [declared(name="ols"), declared(name="other")]
    monkeypatch.setitem(double.__dict__, "entries", found)
    with pytest.raises(expfw.PluginError, match="'ols' is declared by expfw and expfw-theirs"):
        double.get("model", "ols")
    assert double.get("model", "other").distribution == "expfw-theirs"


def test_listing_as_json(expfw_here):
    listed = json.loads(expfw_here("plugins", "list", "--json").out)
    assert {"kind": "model", "name": "ols"}.items() <= next(p for p in listed if p["name"] == "ols").items()
    (shown,) = json.loads(expfw_here("plugins", "show", "mnist", "--json").out)
    options = {o["option"]: o for o in shown["options"]}
    assert (options["dataset.path"]["required"], options["dataset.path"]["default"]) == (True, None)
    assert not options["dataset.scaling"]["required"]
    assert options["dataset.scaling"]["type"] == "unit | standard"
    assert all(o["help"] for o in shown["options"])
