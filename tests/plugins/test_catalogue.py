"""Finding and loading plugins; disabled plugins, and plugins that are not allowed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from support.fake_distributions import GOOD_CALLBACK

import expfw
from expfw.api.run_config import to_plain
from expfw.config.compose import compose
from expfw.config.freeze import freeze
from expfw.plugins import disabling
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.disabling import is_listed
from expfw.plugins.entry import PluginEntry
from expfw.plugins.kinds import KINDS
from expfw.runs.request import prepare_run
from expfw.sweeps.cluster.job import JobFiles


@pytest.fixture
def mine(workdir):
    """The plugin file of the README."""
    path = workdir / "my_model.py"
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    path.write_text(code)
    return str(path)


def test_built_in_plugins_are_registered_by_entry_points():
    entries = [entry for kind in KINDS for entry in get_catalogue().entries[kind] if entry.distribution == "expfw"]
    names = {f"{entry.kind}/{entry.name}" for entry in entries}
    assert names >= {"model/mlp_keras", "dataset/mnist", "backend/tf-cpu", "callback/checkpoint", "tracker/mlflow"}
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
    load = f"expfw.load_model({str(folder)!r}, trust=True)"
    script = f"import expfw, numpy; print({load}.predict(numpy.zeros((3, 8, 8))).shape)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(3, 10)", done.stderr


def run(call, *overrides, flags=()):
    return call(*flags, "run", "--cfg", "job", *overrides)


@pytest.mark.parametrize(
    ("plugin", "names", "expected"),
    [
        (("model", "cnn", "expfw"), ["cnn"], True),
        (("model", "cnn", "expfw"), ["model/cnn"], True),
        (("model", "cnn", "expfw"), ["expfw"], True),
        (("model", "cnn", "expfw"), ["callback/cnn"], False),
        (("model", "cnn", "expfw"), ["cn"], False),
        (("model", "cnn", "expfw"), ["other", "cnn"], True),
        (("backend", "tf-cpu", "expfw"), ["tf_cpu"], True),
        (("model", "wide", "expfw-wide-net"), ["Expfw.Wide_Net"], True),
    ],
)
def test_a_plugin_is_listed_by_name_kind_and_name_or_distribution(plugin, names, expected):
    kind, name, distribution = plugin
    assert is_listed(PluginEntry(kind, name, "module:Class", distribution, "1.0"), names) is expected


def test_a_configuration_omits_disabled_plugins(call):
    code, out, err = run(call, flags=("-p", "no:pictures", "-p", "no:mlflow"))
    assert (code, err) == (0, "")
    assert "plugin: checkpoint" in out
    assert "pictures" not in out
    assert "mlflow" not in out
    assert "pictures" in run(call)[1]  # the environment is restored
    listed = call("-p", "no:pictures", "-p", "no:mlflow", "plugins", "list")[1]
    assert listed.endswith("disabled: callback/pictures, tracker/mlflow\n")
    with disabling.use_variables({disabling.DISABLE_VARIABLE: "pictures, mlflow"}):
        assert run(call)[1] == out


def test_a_recipe_omits_the_options_of_disabled_plugins(workdir):
    (workdir / "conf" / "experiment").mkdir(parents=True)
    recipe = "# @package _global_\ndefaults: [{override /callback: [checkpoint, early_stopping]}]\n"
    (workdir / "conf/experiment/mine.yaml").write_text(recipe + "callback: {early_stopping: {patience: 3}}\n")
    assert compose(["experiment=mine"]).callback["early_stopping"]["patience"] == 3
    with disabling.use_variables({disabling.DISABLE_VARIABLE: "early_stopping"}):
        assert list(compose(["experiment=mine"]).callback) == ["checkpoint"]
        with pytest.raises(expfw.PluginError, match=r"callback plugin 'early_stopping' of .* is disabled by"):
            compose(["experiment=mine", "+callback.early_stopping.min_delta=1"])


def test_a_run_resumes_only_with_all_its_plugins():
    recorded = {name: value for name, value in to_plain(compose([])).items() if name != "from_environment"}
    assert freeze(recorded, get_catalogue()).callback.keys() >= {"pictures"}
    with (
        disabling.use_variables({disabling.DISABLE_VARIABLE: "pictures"}),
        pytest.raises(expfw.PluginError, match="is disabled by"),
    ):
        freeze(recorded, get_catalogue())


def test_only_allowed_plugins_are_usable(call, planted):
    planted.install_callback("other", "raise RuntimeError('it was imported')\n" + GOOD_CALLBACK)
    with disabling.use_variables({disabling.ALLOW_VARIABLE: "expfw"}):
        assert run(call)[0] == 0
        code, _, err = run(call, "+callback=other")
        assert (code, err.count("\n")) == (2, 1)
        assert "'other' of expfw-other 1.0 is not allowed by EXPFW_ALLOW_PLUGINS; add other or" in err
        code, _, err = call("plugins", "check", "other")
        assert code == 2
        assert "is not allowed" in err
    with disabling.use_variables({disabling.ALLOW_VARIABLE: "expfw,other"}):
        assert "it was imported" in run(call, "+callback=other")[2]
    with disabling.use_variables({disabling.ALLOW_VARIABLE: "ols"}):
        assert get_catalogue().list_names("model") == ["ols"]
        with pytest.raises(expfw.PluginError, match="add tf-cpu or expfw there"):
            compose(["model=ols", "callback=[]", "tracker=[]"])


def test_a_plugin_file_is_always_allowed(call, workdir):
    (workdir / "mine.py").write_text(GOOD_CALLBACK)
    with disabling.use_variables({disabling.ALLOW_VARIABLE: "expfw"}):
        assert run(call, "+callback=good", flags=("-p", "mine.py"))[0] == 0
        assert "is disabled by" in run(call, "+callback=good", flags=("-p", "mine.py", "-p", "no:good"))[2]


def test_a_request_for_another_machine_contains_the_disabled_plugins(workdir):
    with disabling.use_variables({disabling.DISABLE_VARIABLE: "expfw-rival"}):
        job_files = JobFiles(workdir / "requests" / "0.json")
        job_files.write_request(
            prepare_run(compose(["dataset=line", "model=ols"]), sweep_folder=workdir, trial=0).request
        )
    assert job_files.read_request()[2] == {disabling.DISABLE_VARIABLE: "expfw-rival"}


RIVAL = """
import expfw_models.ols, expfw_mlflow.tracker

class Ols(expfw_models.ols.Ols):
    pass

class MLflow(expfw_mlflow.tracker.MLflow):
    def ship(self, *arguments):
        raise RuntimeError("the wrong tracker")
"""


@pytest.mark.slow
def test_trials_and_the_shipper_disable_the_same_plugins(workdir, planted):
    """With two models and two trackers of one name, a sweep succeeds if one distribution is disabled."""
    planted.install_distribution("expfw-rival", RIVAL, {"model/ols": "Ols", "tracker/mlflow": "MLflow"})
    arguments = ["sweep", "model=ols", "dataset=line", "train.epochs=1", "seed=1,2", "callback=[]"]
    environment = {**os.environ, "PYTHONPATH": str(planted.path)}

    def command(*flags):
        command_line = [sys.executable, "-m", "expfw", *flags, *arguments]
        return subprocess.run(command_line, capture_output=True, text=True, timeout=300, cwd=workdir, env=environment)

    clash = command()
    assert clash.returncode == 2
    assert "has the same name as that of expfw" in clash.stderr
    done = command("-p", "no:expfw-rival")
    assert done.returncode == 0, done.stderr
    assert "2 trials" in done.stdout
    deliveries = [path.read_text() for path in workdir.glob("runs/**/tracking/mlflow.json")]
    assert len(deliveries) == 3
    assert all('"complete": true' in text for text in deliveries)


@pytest.mark.slow
def test_the_command_for_the_best_trial_disables_the_same_plugins(expfw_process):
    overrides = ("model=ols", "dataset=line", "seed=1,2", "train.epochs=1", "tracker=[]")
    done = expfw_process("-p", "no:pictures", "sweep", *overrides)
    assert "\nbest: expfw -p no:pictures run " in done.out
    sweep_id = re.search(r"sweep (\w{8})  FINISHED", done.out)[1]
    assert "\nbest: expfw -p no:pictures run " in expfw_process("sweeps", "status", sweep_id).out
    done = expfw_process("sweeps", "resume", sweep_id)  # the same configuration, but nothing left to do
    assert f"sweep {sweep_id} is FINISHED; for other trials, start a new sweep" in done.err
