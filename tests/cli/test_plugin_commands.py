"""`expfw plugins list`, `show` and `check`, and the call order of hooks."""

from __future__ import annotations

import json
import sys

import pytest
from support.fake_distributions import GOOD_CALLBACK

import expfw
from expfw.plugins.manager import list_hook_calls, make_manager

ORDERED = """
import expfw

class First(expfw.Callback):
    @expfw.hookimpl(tryfirst=True)
    def expfw_epoch_ended(self, run): pass

class Last(expfw.Callback):
    @expfw.hookimpl(trylast=True)
    def expfw_epoch_ended(self, run): pass

class Plain(expfw.Callback):
    @expfw.hookimpl
    def expfw_epoch_ended(self, run): pass

class Around(expfw.Callback):
    @expfw.hookimpl(wrapper=True)
    def expfw_load_data(self): return (yield)
"""


def make_recorder(log, name, **options):
    """Returns a callback that records its calls."""

    def record(self, run):
        log.append(name)

    def wrap(self, run):
        log.append(f"{name} begins")
        result = yield
        log.append(f"{name} ends")
        return result

    hook = expfw.hookimpl(**options)(wrap if "wrapper" in options else record)
    return type("Recorder", (expfw.Callback,), {"expfw_epoch_ended": hook})(None, name)


def test_hooks_are_called_in_the_order_of_the_configuration():
    log, first, last = [], {"tryfirst": True}, {"trylast": True}
    options = {"a": {}, "b": last, "c": first, "d": {"wrapper": True}, "e": {}, "f": first, "g": last}
    plugin_manager = make_manager(
        [make_recorder(log, name, **values) for name, values in options.items()], report=print
    )
    plugin_manager.hook.expfw_epoch_ended(run=None)
    # The first of the trylast plugins is called last.
    assert log == ["d begins", "c", "f", "a", "e", "g", "b", "d ends"]
    calls = list_hook_calls(plugin_manager)["expfw_epoch_ended"]
    assert [call["plugin"] for call in calls] == [f"callback:{name}" for name in "dcfaegb"]


def test_show_order_lists_the_call_order(call, workdir):
    (workdir / "ordered.py").write_text(ORDERED)
    words = ["-p", "ordered.py", "plugins", "show", "--order", "callback=[last,plain,around,first]", "tracker=[]"]
    code, out, err = call(*words, "--json")
    assert (code, err) == (0, "")
    calls = json.loads(out)
    ended, loaded = calls["expfw_epoch_ended"], calls["expfw_load_data"]
    assert [hook_call["plugin"] for hook_call in ended] == ["callback:first", "callback:plain", "callback:last"]
    assert [hook_call["tryfirst"] for hook_call in ended] == [True, False, False]
    assert ended[2]["trylast"]
    assert [hook_call["plugin"] for hook_call in loaded] == ["callback:around", "dataset:digits"]
    assert loaded[0]["wrapper"]
    code, out, _ = call(*words)
    assert "callback:first (tryfirst)" in out
    assert "callback:around (wrapper)" in out
    assert call("plugins", "show", "--order", "model=cnm")[0] == 2


def test_show_json_contains_the_reason_of_an_unusable_plugin(call, workdir):
    (good,) = json.loads(call("plugins", "show", "early-stopping", "--json")[1])
    assert (good["kind"], good["name"], good["usable"], good["reason"]) == ("callback", "early_stopping", True, None)
    assert good["hooks"] == ["expfw_evaluated"]
    assert good["import_seconds"] >= 0
    assert good["class"] == "expfw_callbacks.early_stopping:EarlyStopping"
    (off,) = json.loads(call("-p", "no:early_stopping", "plugins", "show", "early_stopping", "--json")[1])
    assert not off["usable"]
    assert "is disabled by" in off["reason"]
    code, _, err = call("-p", "no:early_stopping", "plugins", "show", "early_stopping")
    assert code == 2
    assert "is disabled by" in err


def test_missing_and_infinite_defaults_are_strict_json(call, workdir):
    options = "units: int\n        limits: tuple[float, ...] = (float('nan'), -float('inf'), 1.0)"
    (workdir / "mine.py").write_text(GOOD_CALLBACK.replace('units: int = expfw.option(4, help="how many")', options))
    code, out, _ = call("-p", "mine.py", "plugins", "show", "good", "--json")
    (good,) = json.loads(out, parse_constant=pytest.fail)
    assert [(o["required"], o["default"]) for o in good["options"]] == [(True, None), (False, ["nan", "-inf", 1.0])]
    assert (code, good["usable"]) == (0, True)
    assert "required" in call("-p", "mine.py", "plugins", "show", "good")[1]


def test_show_prints_options_and_hooks(call):
    out = call("plugins", "show", "early_stopping").out
    assert "callback.early_stopping.patience" in out
    assert "hooks: expfw_evaluated" in out
    assert "no options" in call("plugins", "show", "activation_plot").out


def test_a_plugin_file_is_checked(call, workdir):
    (workdir / "mine.py").write_text(GOOD_CALLBACK.replace(', help="how many"', ""))
    code, out, _ = call("-p", "mine.py", "plugins", "check", "good")
    problem = "has the option 'units' without a help text\n    -> write units: ... = expfw.option(DEFAULT"
    assert (code, problem in out) == (1, True)
    (workdir / "well.py").write_text(GOOD_CALLBACK)
    assert call("-p", "well.py", "plugins", "check", "good")[:2] == (0, "1 plugin checked, no problems found\n")


@pytest.fixture
def framework(workdir, monkeypatch):
    """A minimal framework that prints on import; only this test can import it."""
    (workdir / "fakes").mkdir()
    (workdir / "fakes" / "torch.py").write_text("import os\nos.write(2, b'native noise')\n")
    monkeypatch.syspath_prepend(workdir / "fakes")
    yield
    sys.modules.pop("torch", None)


def test_a_plugin_file_that_imports_a_framework_has_a_problem(call, workdir, framework):
    (workdir / "heavy.py").write_text(f"import torch\n{GOOD_CALLBACK}")
    code, out, err = call("-p", "heavy.py", "plugins", "check", "good")
    assert code == 1
    assert "import: imports torch on import" in out
    assert (out.count("import:"), err) == (1, "")


def test_output_of_a_framework_import_is_one_log_line(call, workdir, framework, caplog):
    (workdir / "noisy.py").write_text(f"import torch\n{GOOD_CALLBACK}")
    assert call("-p", "noisy.py", "run", "--cfg", "job", "+callback=good")[0] == 0
    assert "prints on import: 'native noise'" in caplog.text


def test_built_in_plugins_have_no_problems(call):
    code, out, _ = call("plugins", "check")
    assert code == 0, out
    assert out.endswith("plugins checked, no problems found\n")


def test_a_plugin_that_cannot_be_created_or_selected_is_not_usable(call, workdir, planted):
    planted.install_distribution("expfw-dotted", GOOD_CALLBACK, {"callback/my.good": "Good"})
    unmade = "    def __init__(self, config, name):\n        raise RuntimeError('not made')\n"
    (workdir / "unmade.py").write_text(f'import expfw\n\nclass Unmade(expfw.Callback):\n    """No."""\n\n{unmade}')
    code, out, _ = call("-p", "unmade.py", "plugins", "list", "--json")
    assert code == 0
    by_name = {plugin["name"]: (plugin["usable"], plugin["reason"]) for plugin in json.loads(out)}
    assert {name for name, (usable, _) in by_name.items() if not usable} == {"my.good", "unmade"}
    assert "its __init__ raises RuntimeError: not made" in by_name["unmade"][1]
    assert "has an invalid name" in by_name["my.good"][1]
    assert "not usable: callback plugin 'my.good' of expfw-dotted 1.0 has an invalid name" in call("plugins", "list")[1]
    assert "my.good" not in call("run", "+callback=goof")[2]
