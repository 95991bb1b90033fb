"""Each check of the contracts finds the fault that it is for, and says what to do."""

from __future__ import annotations

import re
import sys

import pytest
from conftest import ROOT

from expfw import testing
from expfw.plugins.catalogue import get_catalogue
from expfw.testing import BackendContract, Bench, CallbackContract, DatasetContract, ModelContract, TrackerContract

pytestmark = pytest.mark.slow

FILE = str(ROOT / "tests" / "support" / "plugins" / "faulty_plugins.py")
CONTRACTS = {
    "backend": BackendContract,
    "callback": CallbackContract,
    "dataset": DatasetContract,
    "model": ModelContract,
    "tracker": TrackerContract,
}
PLANTED = [
    ("model", "class", "class_fault", r"cannot be made as ClassFault\(config, name\).*super\(\).__init__"),
    ("model", "options", "options_fault", r"option 'units' without a help text; write units.*expfw.option"),
    ("model", "options", "default_fault", r"refuses its own defaults|cannot be served to Hydra"),
    ("model", "methods", "methods_fault", r"has build\(self\), which cannot.*def build\(self, data: "),
    ("callback", "hooks", "hooks_fault", r"expfw_epoch_finished, which is no hook; did you mean"),
    ("model", "options_come_back_from_hydra", "come_back_fault", r"'units' is 3 in Config and 6 behind Hydra"),
    ("model", "bad_options_are_one_line", "bad_options_fault", r"model.units=-1 ends in ValueError.*__post_init"),
    ("callback", "trains", "trains_fault", r"warns: .*trains_fault.*RuntimeError: no good.*catch what"),
    ("callback", "same_seed_same_numbers", "seed_fault", r"same seed differ: mine at step 4 .*never from the clock"),
    ("callback", "goes_on_exactly", "goes_on_fault", r"is not the run.*mine at step 12.*keep in state"),
    (
        "callback",
        "goes_on_exactly",
        "early_fault",
        r"ended at step 4, where one is to be.* step 11.*do not end so early",
    ),
    ("backend", "goes_on_exactly", "backend_goes_on_fault", r"is not the run.*let save\(training=True\) keep"),
    ("model", "works_in_a_trial", "trial_fault", r"does not work in a process of its own.*where is my table"),
    ("model", "builds", "builds_fault", r"build returns None.*return the model"),
    ("model", "builds", "compile_fault", r"a model that is not compiled.*call model.compile"),
    ("model", "random_state_can_be_saved", "builds_fault", r"build returns None.*return the model"),
    ("model", "builds", "width_fault", r"predicts \(7,\) for 3 classes.*data.classes"),
    ("model", "loss_falls", "loss_fault", r"does not fall; epoch by epoch it was 0\.9.*trainable_var"),
    ("backend", "loss_falls", "backend_loss_fault", r"does not make the loss fall.*apply the gradients in fit"),
    ("model", "saved_model_predicts_the_same", "saved_fault", r"predicts otherwise.*draw no constants in build"),
    ("model", "two_replicas_are_one_device", "replicas_fault", r"other numbers on two replicas.*synchronized"),
    ("model", "random_state_can_be_saved", "random_fault", r"by RandomStandardNormal, whose.*SeedGenerator"),
    ("backend", "calls_the_hooks_in_order", "order_fault", r"never comes to \('steps_ended', 3\).*next_hook_step"),
    ("backend", "stops_when_asked", "stop_fault", r"asked to stop at step 6.* at step 20.*run.is_stopping"),
    ("backend", "tells_about_the_model", "tells_fault", r"describe says 1 parameters.*let describe return"),
    ("backend", "saved_state_is_taken_back", "backend_saved_fault", r"predicts something else.*weights/"),
    ("backend", "refuses_the_state_of_another_model", "refuses_fault", r"restore and says nothing.*compare names"),
    ("backend", "same_as_another_backend", "same_as_fault", r"other numbers than tf-cpu.*seed initial weights"),
    ("callback", "state_comes_back", "state_fault", r"'epochs' was 2, after restore it is 0.*take back every"),
    ("dataset", "load_gives_what_it_declares", "load_fault", r"x of the train split is float64.*astype"),
    ("dataset", "the_seed_alone_decides", "data_seed_fault", r"loading twice with one seed.*default_rng"),
    ("dataset", "the_seed_alone_decides", "uses_seed_fault", r"uses_seed = False, and gives other data"),
    ("dataset", "identity_tells_these_data", "identity_fault", r"identity\(\) is .*options and files alone"),
    ("dataset", "needs_no_framework", "framework_fault", r"imports torch to load data.*with NumPy"),
    ("dataset", "preprocessing_has_an_inverse", "inverse_fault", r"does not give what.*preprocessing=\.\.\."),
    ("tracker", "destination_is_a_name", "destination_fault", r"destination gives .* and then .*options alone"),
    ("tracker", "delivers_a_run", "delivers_fault", r"at step 4 is .* in the journal and \[\] there.*metrics"),
    ("tracker", "delivering_again_is_harmless", "again_fault", r"there.*none a second time"),
    ("tracker", "another_process_goes_on", "process_fault", r"raises AttributeError in a new process.*`state`"),
    pytest.param(
        *("tracker", "delivers_a_sweep", "sweep_fault", r"of a sweep with two trials, .* is not delivered.*log"),
        marks=pytest.mark.slow,  # the shipper tries for 20 seconds
    ),
]
PRINTS = "print('hello')"
HEAVY = "import sys, types; sys.modules['torch'] = types.ModuleType('torch')"
SLOW = "import time; end = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
IMPORTS = [
    (PRINTS, "prints on import: 'hello'"),
    (HEAVY, "imports torch as soon"),
    (SLOW, r"takes 0\.[6-9] s of processor"),
]
MINE = '''
import expfw
class Mine(expfw.Callback):
    """Nothing."""
'''


def held(self, tracker, runs_dir, state):
    points = type(tracker).delivered_points[state["run"]]
    return [(name, step, value) for (name, step), values in points.items() for value in values]


def bench_of(contract, cls, folder):
    further = {"held": held} if contract is TrackerContract else {}
    return Bench(type("Faulty", (contract,), {"plugin": cls, **further}), folder)


def plugin(kind, name, file=FILE):
    return get_catalogue((file,)).get(kind, name).loaded


def fails(kind, cls, check, folder, match):
    bench = bench_of(CONTRACTS[kind], cls, folder)
    with pytest.raises(pytest.fail.Exception) as caught:
        getattr(bench.contract, f"test_{check}")(bench)
    message = " ".join(str(caught.value).split())
    assert re.search(match, message), message
    assert "to mend it: " in message


@pytest.mark.parametrize(("kind", "check", "name", "match"), PLANTED, ids=lambda value: value[:20])
def test_a_fault_is_found(processors, tmp_path, kind, check, name, match):
    fails(kind, plugin(kind, name), check, tmp_path, match)


def test_an_option_that_the_plugin_does_not_have_is_told_of(tmp_path):
    contract = type("Mistyped", (ModelContract,), {"plugin": plugin("model", "width_fault"), "options": {"unit": 4}})
    with pytest.raises(pytest.fail.Exception, match=r"no option model.unit\.(.|\n)*to mend it: set `options`"):
        contract().test_options_come_back_from_hydra(Bench(contract, tmp_path))


@pytest.mark.parametrize(("code", "match"), IMPORTS, ids=["prints", "heavy", "slow"])
def test_a_faulty_import_is_found(tmp_path, monkeypatch, code, match):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "mine.py").write_text(code + MINE)
    cls = plugin("callback", "mine", str(tmp_path / "mine.py"))
    fails("callback", cls, "import", tmp_path, match)


def test_every_check_has_its_fault():
    """A check that several kinds share needs one for any of them."""
    planted = {(case[0], f"test_{case[1]}") for case in (getattr(one, "values", one) for one in PLANTED)}
    for kind, contract in CONTRACTS.items():
        for check in (name for name in dir(contract) if name.startswith("test_")):
            shared = check in dir(testing.PluginContract) or check in dir(testing.RunContract)
            found = {name for _, name in planted} | {"test_import"} if shared else {n for k, n in planted if k == kind}
            assert check in found, f"{contract.__name__}.{check}"
