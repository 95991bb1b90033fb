"""expfw plugins: list, show, check, and in which order hooks are called."""

from __future__ import annotations

import json
import sys

import pytest
from support.fake_distributions import GOOD_CALLBACK

import expfw
from expfw.plugins import importing
from expfw.plugins.manager import list_hook_calls, make_manager

ORDERED = '''
import expfw


class First(expfw.Callback):
    """Wants to be told first."""

    @expfw.hookimpl(tryfirst=True)
    def expfw_epoch_ended(self, run):
        pass


class Last(expfw.Callback):
    """Wants to be told last."""

    @expfw.hookimpl(trylast=True)
    def expfw_epoch_ended(self, run):
        pass


class Plain(expfw.Callback):
    """Has no wish."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        pass


class Around(expfw.Callback):
    """Wraps the data."""

    @expfw.hookimpl(wrapper=True)
    def expfw_load_data(self):
        return (yield)
'''


class Told(expfw.Callback):
    """Notes that it was told."""

    log: list[str] = []  # noqa: RUF012  # shared on purpose


class Plain(Told):
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.log.append(self.name)


class First(Told):
    @expfw.hookimpl(tryfirst=True)
    def expfw_epoch_ended(self, run):
        self.log.append(self.name)


class Last(Told):
    @expfw.hookimpl(trylast=True)
    def expfw_epoch_ended(self, run):
        self.log.append(self.name)


class Around(Told):
    @expfw.hookimpl(wrapper=True)
    def expfw_epoch_ended(self, run):
        self.log.append(f"{self.name} begins")
        result = yield
        self.log.append(f"{self.name} ends")
        return result


def test_the_order_is_that_of_the_configuration_but_for_wishes():
    Told.log.clear()
    kinds = [("a", Plain), ("b", Last), ("c", First), ("d", Around), ("e", Plain), ("f", First), ("g", Last)]
    made = make_manager([cls(None, name) for name, cls in kinds], report=print)
    made.hook.expfw_epoch_ended(run=None)
    assert Told.log == [
        "d begins",
        "c",
        "f",
        "a",
        "e",
        "g",
        "b",
        "d ends",
    ]  # of the last ones, the first is last
    shown = [one["plugin"].removeprefix("callback:") for one in list_hook_calls(made)["expfw_epoch_ended"]]
    assert shown == ["d", "c", "f", "a", "e", "g", "b"]  # what is shown is what happens


def test_the_order_of_a_configuration_is_shown(call, workdir):
    (workdir / "ordered.py").write_text(ORDERED)
    words = ["-p", "ordered.py", "plugins", "show", "--order", "callback=[last,plain,around,first]", "tracker=[]"]
    code, out, err = call(*words, "--json")
    assert (code, err) == (0, "")
    calls = json.loads(out)
    assert [one["plugin"] for one in calls["expfw_epoch_ended"]] == [
        "callback:first",
        "callback:plain",
        "callback:last",
    ]
    assert [one["tryfirst"] for one in calls["expfw_epoch_ended"]] == [True, False, False]
    assert calls["expfw_epoch_ended"][2]["trylast"]
    assert [one["plugin"] for one in calls["expfw_load_data"]] == ["callback:around", "dataset:digits"]
    assert calls["expfw_load_data"][0]["wrapper"]
    code, out, _ = call(*words)
    assert "callback:first (tryfirst)" in out
    assert "callback:around (wrapper)" in out
    assert call("plugins", "show", "--order", "model=cnm")[0] == 2


def test_show_as_json_says_why_one_is_not_usable(call, workdir):
    (good,) = json.loads(call("plugins", "show", "early-stopping", "--json")[1])
    assert (good["kind"], good["name"], good["usable"], good["reason"]) == ("callback", "early_stopping", True, None)
    assert good["hooks"] == ["expfw_evaluated"]
    assert good["import_seconds"] >= 0
    assert good["class"] == "expfw_callbacks.early_stopping:EarlyStopping"
    (off,) = json.loads(call("-p", "no:early_stopping", "plugins", "show", "early_stopping", "--json")[1])
    assert not off["usable"]
    assert "is switched off" in off["reason"]
    code, _, err = call("-p", "no:early_stopping", "plugins", "show", "early_stopping")
    assert code == 2
    assert "is switched off" in err


def test_defaults_that_are_no_numbers_and_none_at_all_are_json(call, workdir):
    options = "units: int\n        limits: tuple[float, ...] = (float('nan'), -float('inf'), 1.0)"
    (workdir / "mine.py").write_text(GOOD_CALLBACK.replace('units: int = expfw.option(4, help="how many")', options))
    code, out, _ = call("-p", "mine.py", "plugins", "show", "good", "--json")
    (good,) = json.loads(out, parse_constant=pytest.fail)
    assert [(o["required"], o["default"]) for o in good["options"]] == [(True, None), (False, ["nan", "-inf", 1.0])]
    assert (code, good["usable"]) == (0, True)
    assert "required" in call("-p", "mine.py", "plugins", "show", "good")[1]


def test_show_for_people(call):
    code, out, _ = call("plugins", "show", "early_stopping")
    assert code == 0
    assert "callback.early_stopping.patience" in out
    assert "hooks: expfw_evaluated" in out
    assert "no options" in call("plugins", "show", "activation_plot")[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "mlp_kears"], "no plugin 'mlp_kears'. Did you mean 'mlp_keras'?"),
        (["check", "mlp_kears"], "no plugin 'mlp_kears'. Did you mean 'mlp_keras'?"),
        (["show"], "no names; expected one: expfw plugins show NAME"),
        (["show", "ols", "cnn"], "2 names; expected one"),
    ],
)
def test_mistakes(call, words, expected):
    code, out, err = call("plugins", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err


def test_a_plugin_file_is_checked(call, workdir):
    (workdir / "mine.py").write_text(GOOD_CALLBACK.replace(', help="how many"', ""))
    code, out, _ = call("-p", "mine.py", "plugins", "check", "good")
    assert code == 1
    assert "has the option 'units' without a help text" in out
    assert "-> write units: ... = expfw.option(DEFAULT" in out
    assert "1 plugin checked, 1 with faults" in out
    (workdir / "well.py").write_text(GOOD_CALLBACK)
    assert call("-p", "well.py", "plugins", "check", "good")[:2] == (0, "1 plugin checked, no fault found\n")


@pytest.fixture
def framework(workdir, monkeypatch):
    """One as small as can be, which prints as they do; nobody else shall find it."""
    (workdir / "fakes").mkdir()
    (workdir / "fakes" / "torch.py").write_text("import os\nos.write(2, b'native noise')\n")
    monkeypatch.syspath_prepend(workdir / "fakes")
    yield
    sys.modules.pop("torch", None)


def test_a_plugin_file_that_imports_a_framework_is_told_so(call, workdir, framework):
    (workdir / "heavy.py").write_text(f"import torch\n{GOOD_CALLBACK}")
    code, out, err = call("-p", "heavy.py", "plugins", "check", "good")
    assert code == 1
    assert "import: imports torch as soon as it is looked at" in out
    assert (out.count("import:"), err) == (1, "")


def test_what_a_framework_prints_when_a_plugin_file_imports_it_is_not_on_the_screen(call, workdir, framework):
    (workdir / "noisy.py").write_text(f"import torch\n{GOOD_CALLBACK}")
    code, _, err = call("-p", "noisy.py", "run", "--cfg", "job", "+callback=good")
    assert (code, err) == (0, "")
    assert b"native noise" in importing.take_noise()


def test_the_built_ins_are_well(call):
    code, out, _ = call("plugins", "check")
    assert code == 0, out
    assert out.endswith("plugins checked, no fault found\n")


def test_one_that_cannot_be_made_or_chosen_is_not_usable(call, workdir, planted):
    planted.install_distribution("expfw-dotted", GOOD_CALLBACK, {"callback/my.good": "Good"})
    unmade = "    def __init__(self, config, name):\n        raise RuntimeError('not made')\n"
    (workdir / "unmade.py").write_text(f'import expfw\n\nclass Unmade(expfw.Callback):\n    """No."""\n\n{unmade}')
    code, out, _ = call("-p", "unmade.py", "plugins", "list", "--json")
    assert code == 0
    told = {one["name"]: (one["usable"], one["reason"]) for one in json.loads(out)}
    assert {name for name, (usable, _) in told.items() if not usable} == {"my.good", "unmade"}
    assert "cannot be made with its options (RuntimeError: not made)" in told["unmade"][1]
    assert "has a name that cannot be chosen" in told["my.good"][1]
    assert "not usable: callback plugin 'my.good' of expfw-dotted 1.0 has a name" in call("plugins", "list")[1]
    assert "my.good" not in call("run", "+callback=goof")[2]
