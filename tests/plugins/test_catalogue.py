"""Finding, loading and rejecting plugins."""

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
        units: int = expfw.option(4, help="units of the hidden layer")

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


def test_built_in_plugins_are_registered_by_entry_points():
    entries = [entry for kind in KINDS for entry in get_catalogue().entries[kind] if entry.distribution == "expfw"]
    assert {(entry.kind, entry.name) for entry in entries} >= {
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
    for entry in entries:
        assert issubclass(entry.load(), KINDS[entry.kind])
        assert entry.load().__doc__


def test_dash_and_underscore_in_names_are_the_same():
    assert get_catalogue().get("backend", "tf_cpu") == get_catalogue().get("backend", "tf-cpu")


def test_a_model_in_a_plugin_file_trains(mine, expfw_here):
    done = expfw_here("-p", mine, "run", "model=mine", "model.units=8", "train.epochs=1", "tracker=[]")
    assert done.code == 0, done.err
    assert "FINISHED  mine digits" in done.out
    assert "model.units" in expfw_here("-p", mine, "plugins", "show", "mine").out
    listed = json.loads(expfw_here("-p", mine, "plugins", "list", "--json").out)
    assert f"file {mine}" in [plugin["distribution"] for plugin in listed]


@pytest.mark.slow
def test_a_saved_model_of_a_plugin_file_predicts_in_another_process(mine, expfw_here, workdir):
    expfw_here("-p", mine, "run", "model=mine", "train.epochs=1", "tracker=[]")
    (folder,) = workdir.glob("runs/*/*/model")
    (workdir / "my_model.py").unlink()  # the saved model contains a copy
    script = f"import expfw, numpy; print(expfw.load_model({str(folder)!r}).predict(numpy.zeros((3, 8, 8))).shape)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(3, 10)", done.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("import nonexistent_module", "cannot be imported (ModuleNotFoundError: No module named 'nonexistent_module')"),
        ("import sys; sys.exit(3)", "cannot be imported (SystemExit: 3)"),
    ],
)
def test_a_broken_plugin_file_is_a_one_line_error(workdir, expfw_here, content, expected):
    (workdir / "bad.py").write_text(content)
    done = expfw_here("-p", "bad.py", "run")
    assert done.code == 2
    assert expected in done.err
    assert done.err.count("\n") == 1
    assert not (workdir / "runs").exists()


def make_entry(**changes):
    base = PluginEntry("model", "theirs", "expfw_models.ols:Ols", "expfw-theirs", "1.2", None)
    return dataclasses.replace(base, **changes)


def test_a_compatible_version_range_is_accepted():
    assert make_entry(requires="expfw (>=0.1,<1)").load().__name__ == "Ols"


def test_two_plugins_of_one_name_are_an_error_only_if_selected(monkeypatch):
    catalogue = Catalogue()
    entries = {kind: list(plugins) for kind, plugins in catalogue.entries.items()}
    entries["model"] += [make_entry(name="ols"), make_entry(name="other")]
    monkeypatch.setitem(catalogue.__dict__, "entries", entries)
    with pytest.raises(expfw.PluginError, match="has the same name as that of expfw-theirs; uninstall expfw-theirs"):
        catalogue.get("model", "ols")
    assert catalogue.get("model", "other").distribution == "expfw-theirs"


def test_plugins_list_and_show_print_json(expfw_here):
    listed = json.loads(expfw_here("plugins", "list", "--json").out)
    assert {"kind": "model", "name": "ols"}.items() <= next(p for p in listed if p["name"] == "ols").items()
    (shown,) = json.loads(expfw_here("plugins", "show", "mnist", "--json").out)
    options = {o["option"]: o for o in shown["options"]}
    assert (options["dataset.path"]["required"], options["dataset.path"]["default"]) == (True, None)
    assert not options["dataset.scaling"]["required"]
    assert options["dataset.scaling"]["type"] == "unit | standard"
    assert all(o["help"] for o in shown["options"])
