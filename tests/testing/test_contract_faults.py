"""Each check of the contracts finds a planted fault, and its message explains the fix."""

from __future__ import annotations

import re
import sys
from types import MappingProxyType

import pytest
from conftest import ROOT
from support.contracts import CONTRACTS

from expfw import testing
from expfw.plugins.catalogue import get_catalogue
from expfw.testing import Bench

pytestmark = pytest.mark.slow

FILE = str(ROOT / "tests" / "support" / "plugins" / "faulty_plugins.py")
PLANTED = [
    ("model", "class", "class_fault", r"cannot be created as ClassFault\(config, name\).*super\(\).__init__"),
    ("model", "options", "options_fault", r"option 'units' without a help text; write units.*expfw.option"),
    ("model", "options", "default_fault", r"rejects its own defaults|the default of option"),
    ("model", "methods", "methods_fault", r"has build\(self\), which cannot.*def build\(self, data: "),
    ("callback", "hooks", "hooks_fault", r"implements the unknown hook expfw_epoch_finished; did you mean"),
    ("model", "options_round_trip_through_hydra", "round_trip_fault", r"'units' is 3 in Config and 6 after Hydra"),
    ("model", "bad_options_raise_a_one_line_error", "bad_options_fault", r"units=-1 raises ValueError.*__post_init"),
    ("callback", "trains", "trains_fault", r"warns: .*trains_fault.*RuntimeError: no good.*catch exceptions"),
    ("callback", "same_seed_gives_same_metrics", "seed_fault", r"same seed differ: mine at step 4.*from the clock"),
    ("callback", "resume_is_bit_identical", "resume_fault", r"differs from the.*mine at step 12.*return the complete"),
    ("callback", "resume_is_bit_identical", "early_fault", r"ended at step 4, before its.* step 11.*are longer"),
    ("backend", "resume_is_bit_identical", "backend_resume_fault", r"differs from the.*in save\(training=True\)"),
    ("model", "works_in_a_trial_process", "trial_fault", r"does not work in a separate process.*where is my table"),
    ("model", "builds", "builds_fault", r"build returns None.*return the model"),
    ("model", "builds", "compile_fault", r"a model that is not compiled.*call model.compile"),
    ("model", "random_state_can_be_saved", "builds_fault", r"build returns None.*return the model"),
    ("model", "builds", "width_fault", r"predicts outputs of shape \(7,\) for 3 classes.*data.classes"),
    ("model", "loss_decreases", "loss_fault", r"does not decrease the loss: train/epoch_loss was \d.*trainable_var"),
    ("backend", "loss_decreases", "backend_loss_fault", r"does not decrease the loss.*apply the gradients in fit"),
    ("model", "saved_model_predicts_the_same", "saved_fault", r"trained model differ \(by.*constants in build"),
    ("model", "two_replicas_match_one_device", "replicas_fault", r"different losses on two replicas.*synchronized"),
    ("model", "random_state_can_be_saved", "random_fault", r"with RandomStandardNormal, whose.*SeedGenerator"),
    ("backend", "calls_hooks_in_order", "order_fault", r"\('steps_ended', 3\) is missing.*next_hook_step"),
    ("backend", "stops_on_request", "stop_fault", r"requested at step 6.* at step 20.*run.is_stopping"),
    ("backend", "describes_the_model", "describe_fault", r"describe returns 1 parameters.*'parameters' in describe"),
    ("backend", "saved_state_is_restored", "backend_saved_fault", r"saved and the trained model differ.*weights/"),
    ("backend", "rejects_the_state_of_another_model", "reject_fault", r"restore raises nothing.*compare names"),
    ("backend", "matches_another_backend", "same_as_fault", r"different losses than tf-cpu.*seed initial weights"),
    ("callback", "state_is_restored", "state_fault", r"'epochs' in .* was 2, after restore it is 0.*restore every"),
    ("dataset", "data_matches_its_spec", "load_fault", r"x of the train split is float64.*astype"),
    ("dataset", "data_depends_only_on_the_seed", "data_seed_fault", r"loading twice with one seed.*default_rng"),
    ("dataset", "data_depends_only_on_the_seed", "uses_seed_fault", r"uses_seed = False, but returns different"),
    ("dataset", "identity_is_stable", "identity_fault", r"identity\(\) returns first .*only from options and files"),
    ("dataset", "needs_no_framework", "framework_fault", r"imports torch to load data.*with NumPy"),
    ("dataset", "preprocessing_has_an_inverse", "inverse_fault", r"does not match the.*preprocessing=\.\.\."),
    ("tracker", "destination_is_stable", "destination_fault", r"destination returns .*, then .*only from the options"),
    ("tracker", "delivers_a_run", "delivers_fault", r"at step 4 is .* in the journal, but \[\] at the.*metrics"),
    ("tracker", "repeated_delivery_changes_nothing", "again_fault", r"at the destination.*exactly once"),
    ("tracker", "new_process_resumes_delivery", "process_fault", r"raises AttributeError in a new process.*`state`"),
    pytest.param(
        *("tracker", "delivers_a_sweep", "sweep_fault", r"of a sweep with two trials, .* is not delivered.*log"),
        marks=pytest.mark.slow,  # the shipper tries for 20 seconds
    ),
]
IMPORTS = {
    "print('hello')": "prints on import: 'hello'",
    "import sys, types; sys.modules['torch'] = types.ModuleType('torch')": "imports torch on import",
    "import time; end = time.process_time() + 0.6\nwhile time.process_time() < end: pass": r"takes 0\.[6-9] s of CPU",
}
MINE = '''
import expfw
class Mine(expfw.Callback):
    """Nothing."""
'''


def read_points(self, tracker, runs_dir, state):
    points = type(tracker).delivered_points[state["run"]]
    return [(name, step, value) for (name, step), values in points.items() for value in values]


def find_plugin(kind, name, file=FILE):
    return get_catalogue((file,)).get(kind, name).import_class()


def assert_fails(plugin, check, folder, match, options=MappingProxyType({})):
    attributes = {"plugin": plugin, "options": options, "read_points": read_points}
    bench = Bench(type("Faulty", (CONTRACTS[plugin.kind],), attributes), folder)
    with pytest.raises(pytest.fail.Exception) as caught:
        getattr(bench.contract, f"test_{check}")(bench)
    message = " ".join(str(caught.value).split())
    assert re.search(match, message), message
    assert "to fix it: " in message


@pytest.mark.parametrize(("kind", "check", "name", "match"), PLANTED, ids=lambda value: value[:20])
def test_a_planted_fault_is_found(processors, tmp_path, kind, check, name, match):
    assert_fails(find_plugin(kind, name), check, tmp_path, match)


def test_an_unknown_option_is_reported(tmp_path):
    match = r"unknown option 'model.unit' of.*to fix it: set `options`"
    plugin = find_plugin("model", "width_fault")
    assert_fails(plugin, "options_round_trip_through_hydra", tmp_path, match, options={"unit": 4})


@pytest.mark.parametrize(("code", "match"), IMPORTS.items(), ids=["prints", "heavy", "slow"])
def test_a_faulty_import_is_found(tmp_path, monkeypatch, code, match):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "mine.py").write_text(code + MINE)
    assert_fails(find_plugin("callback", "mine", str(tmp_path / "mine.py")), "import", tmp_path, match)


def test_every_check_has_a_planted_fault():
    """A check shared by several kinds needs a fault for one of them."""
    planted = {(case[0], f"test_{case[1]}") for case in (getattr(one, "values", one) for one in PLANTED)}
    for kind, contract in CONTRACTS.items():
        for check in (name for name in dir(contract) if name.startswith("test_")):
            shared = check in dir(testing.PluginContract) or check in dir(testing.RunContract)
            found = {name for _, name in planted} | {"test_import"} if shared else {n for k, n in planted if k == kind}
            assert check in found, f"{contract.__name__}.{check}"
