"""A faulty plugin is a one-line error with its name and distribution, and does not affect other plugins."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import threading
import time

import pytest
from support.fake_distributions import GOOD_CALLBACK

import expfw
from expfw.errors import truncate_start, truncate_text
from expfw.plugins import disabling, importing
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.inspection import inspect_all
from expfw.system.formatting import pluralize

OPTION = "units: int = expfw.option(4"
COLOUR = "import enum\n\nclass Colour(enum.Enum):\n    RED = 1\n    BLUE = 2\n"
LOST = "\n\nclass Lost(Good):\n    class Config(Good.Config):\n        more: int = expfw.option(4)\n\n\nGood = Lost\n"
CHECK = "\n\n        def __post_init__(self):\n            self.unit.x"

BROKEN_MODULES = {
    "syntax": ("def f(:", "site/expfw_syntax.py, line 1)); fix or uninstall expfw-syntax"),
    "raises": ("raise RuntimeError('two\\nlines')", "cannot be imported (RuntimeError: two lines)"),
    "exits": ("import sys; sys.exit(3)", "cannot be imported (SystemExit: 3)"),
    "number": ("Good = 3", "expfw_number:Good is not a subclass of expfw.Callback; fix or uninstall expfw-number"),
    "instance": (GOOD_CALLBACK + "\n\nGood.Config = Good.Config()\n", ": its Config is not a class; write @dataclass"),
    "lost": (GOOD_CALLBACK + LOST, "has the option 'more' in a class that is not a dataclass, so it is ignored; put"),
    "no_name": (
        GOOD_CALLBACK + "\n    def __init__(self, config):\n        pass\n",
        "cannot be created as Good(config, name) (too many positional arguments); give __init__ the arg",
    ),
    "enum": (
        COLOUR + GOOD_CALLBACK.replace(OPTION, "units: Colour = expfw.option(Colour.RED"),
        "units has the type Colour, which is not supported; use int, float, str, bool, Literal[...]",
    ),
}
REPLACEMENTS = {
    "no_dataclass": ("    @dataclass\n", "", "its Config is not a dataclass; put @dataclass above it"),
    "other_kind": ("epoch_ended", "evaluation", "; did you mean 'expfw_evaluate' or 'expfw_evaluated'?"),
    "wrapped": ("epoch_ended", "build_modle", "unknown hook expfw_build_modle; did you mean 'expfw_build_model'?"),
    "wrong_argument": ("self, run", "self, run, modle", "expfw_epoch_ended with the unknown argument 'modle'; "),
    "unmarked": ("    @expfw.hookimpl\n", "", "without @expfw.hookimpl, so it is never called; add @expfw.hookimpl"),
    "lower": ("class Config", "class config", "are in a class 'config', which is ignored; rename it to Config"),
    "broken_check": ('many")', f'many"){CHECK}', ": its Config.__post_init__ raises AttributeError: 'Config' object "),
    "keys": (OPTION, "units: dict[int, str] = expfw.option({}", "dict[int, str], which is not supported; use int, "),
    "no_self": ("(self, run)", "(run)", "epoch_ended without self; write def expfw_epoch_ended(self, run)"),
    "async": ("def expfw", "async def expfw", "epoch_ended with async def, which is never awaited; write def"),
    "no_yield": ("hookimpl", "hookimpl(wrapper=True)", "as a wrapper that does not yield; write return (yield)"),
    "never_run": ("pass", "yield", "with a yield, so its body never runs; write @expfw.hookimpl(wrapper=True)"),
}
FAULTS = BROKEN_MODULES | {
    name: (GOOD_CALLBACK.replace(old, new), expected) for name, (old, new, expected) in REPLACEMENTS.items()
}


def check_good_plugin(call):
    code, out, err = call("run", "--cfg", "job", "+callback=good")
    assert (code, err) == (0, "")
    assert "plugin: good" in out


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_plugin_is_a_one_line_error_if_selected(planted, call, name):
    code, expected = FAULTS[name]
    planted.install_callback(name, code, version="2.1")
    exit_code, out, err = call("run", "--cfg", "job", f"+callback={name}")
    assert (exit_code, out, err.count("\n")) == (2, "", 1)
    assert f"callback plugin '{name}' of expfw-{name.replace('_', '-')} 2.1" in err
    assert expected in err
    check_good_plugin(call)
    assert name in call("plugins", "list")[1]


def test_an_incompatible_version_range_is_an_error(planted, call):
    planted.install_callback("late", requires="expfw (>=99)")
    planted.install_callback("odd", requires="expfw about 3")
    problem = "callback plugin 'late' of expfw-late 1.0 requires expfw>=99, but this is expfw"
    code, _, err = call("run", "--cfg", "job", "+callback=late")
    assert (code, err.count("\n")) == (2, 1)
    assert problem in err
    assert "invalid requirement 'expfw about 3'" in call("run", "--cfg", "job", "+callback=odd")[2]
    assert f"\nnot usable: {problem}" in call("plugins", "list")[1]
    check_good_plugin(call)


def test_a_distribution_without_a_version_range_of_expfw_is_a_fault(planted, call):
    planted.install_callback("any", requires=None)
    code, out, _ = call("plugins", "check", "any")
    assert code == 1
    assert 'versions: its distribution does not declare which expfw it requires\n    -> add "expfw>=0.1,<1"' in out
    assert call("run", "--cfg", "job", "+callback=any")[0] == 0


def test_a_requirement_of_an_extra_is_ignored(planted):
    assert get_catalogue().get("callback", "good").requires == "expfw<1,>=0.1"


def test_two_distributions_with_the_same_plugin_name(planted, call):
    planted.install_distribution("expfw-rival", GOOD_CALLBACK, {"callback/good": "Good", "callback/other": "Good"})
    assert call("run", "--cfg", "job", "+callback=good")[0] == 2
    assert call("run", "--cfg", "job", "+callback=other")[0] == 0
    for disabled, remaining in (("expfw-rival", "expfw-good"), ("expfw_good", "expfw-rival")):
        assert call("-p", f"no:{disabled}", "run", "--cfg", "job", "+callback=good")[0] == 0
        with disabling.use_variables({disabling.DISABLE_VARIABLE: disabled}):
            assert get_catalogue().get("callback", "good").distribution == remaining


@pytest.mark.parametrize("as_file", [True, False])
def test_the_remedy_for_a_name_clash_never_disables_expfw(planted, call, workdir, as_file):
    """In any order of the distributions."""
    if as_file:
        (workdir / "mine.py").write_text(GOOD_CALLBACK.replace("class Good", "class EarlyStopping"))
    planted.install_distribution("a-rival", GOOD_CALLBACK, {} if as_file else {"callback/early_stopping": "Good"})
    options = ["-p", "mine.py"] if as_file else []
    code, _, err = call(*options, "run", "--cfg", "job", "+callback=early_stopping")
    file = workdir / "mine.py"
    remedy = f"rename the class, or omit -p {file}" if as_file else "uninstall a-rival, disable it with -p no:a-"
    assert (code, err.count("\n")) == (2, 1)
    assert f"; {remedy}" in err


def test_unknown_names_in_the_environment_are_logged_once(planted, call, caplog):
    variables = {disabling.DISABLE_VARIABLE: "god,good", disabling.ALLOW_VARIABLE: "expfw,callback/xylophone"}
    with disabling.use_variables(variables):
        assert call("plugins", "list")[0] == 0
    assert caplog.messages == [
        f"{disabling.DISABLE_VARIABLE}: unknown plugin or distribution 'god'. Did you mean 'good'?",
        f"{disabling.ALLOW_VARIABLE}: unknown plugin or distribution 'callback/xylophone'.",
    ]
    caplog.clear()
    with disabling.use_variables(
        {disabling.DISABLE_VARIABLE: "callback/good, expfw_good", disabling.ALLOW_VARIABLE: "expfw"}
    ):
        assert call("plugins", "list")[0] == 0
    assert not caplog.messages


def test_damaged_metadata_is_one_log_line_and_affects_no_other_plugin(planted, call, caplog):
    planted.install_distribution("expfw-torn", GOOD_CALLBACK, {}, text="[expfw.callback]\nno equals sign\n")
    planted.install_distribution("expfw-twisted", GOOD_CALLBACK, {}, text="[expfw.callback]\ntwisted = not a module\n")
    with caplog.at_level(logging.WARNING, "expfw"):
        check_good_plugin(call)
    (line,) = [message for message in caplog.messages if "torn" in message]
    assert re.search(r"cannot read the metadata of \S+expfw_torn-1.0.dist-info \(.*\); reinstall it", line)
    code, _, err = call("run", "--cfg", "job", "+callback=twisted")
    assert code == 2
    assert "'twisted' of expfw-twisted 1.0: its entry point is 'not a module'; expected module:Class" in err


@pytest.mark.parametrize("metadata", ["absent", "", "Metadata-Version: 2.1\nName: expfw-bare\n"])
def test_metadata_without_name_or_version_is_one_log_line(planted, call, caplog, metadata):
    planted.install_callback("bare", metadata=metadata)
    if metadata == "absent":
        (planted.path / "expfw_bare-1.0.dist-info" / "METADATA").unlink()
    with caplog.at_level(logging.WARNING, "expfw"):
        check_good_plugin(call)
    (line,) = [message for message in caplog.messages if "bare" in message]
    assert re.search(r"cannot read the metadata of \S+expfw_bare-1.0.dist-info \(.*\); reinstall it", line)
    assert " bare " not in call("plugins", "list")[1]


def test_text_that_a_plugin_prints_on_import_is_one_log_line(planted, call, caplog):
    handler = "import logging, os, sys\nhandler = logging.StreamHandler(sys.stdout)\nprint('hello')\nprint('you')\n"
    handler += "sys.stdout.flush(); os.system('echo of a shell'); os.write(2, b'of a library')\n"
    module = planted.install_callback("loud", handler + GOOD_CALLBACK)
    code, out, _ = call("run", "--cfg", "job", "+callback=loud")
    assert code == 0
    assert not re.search("hello|of a", out)
    (line,) = [message for message in caplog.messages if "prints" in message]
    text = "hello you of a shell of a library"  # also the output of programs and native libraries
    assert line.startswith(f"callback plugin 'loud' of expfw-loud 1.0 prints on import: {text!r}")
    importlib.import_module(module).handler.stream.write("later\n")  # a stream kept from the import still works
    check_good_plugin(call)


def test_imports_in_several_threads_restore_stdout(capfd):
    def load():
        importing.import_safely(lambda: time.sleep(0.02), "no such module", "it", "it")

    threads = [threading.Thread(target=load) for _ in range(4)]
    for number, thread in enumerate(threads):
        thread.start()
        time.sleep(0.005 * number)
    for thread in threads:
        thread.join()
    os.write(1, b"all is well")
    assert capfd.readouterr().out == "all is well"


@pytest.mark.slow
def test_plugins_list_and_check_report_all_faults_together(planted, call):
    """Each fault is reported for its plugin; the good plugin has none."""
    for name, (code, _) in FAULTS.items():
        planted.install_callback(name, code)
    planted.install_callback("dies", "import os, signal; print('x'); os.kill(os.getpid(), signal.SIGKILL)")
    planted.install_callback("crash", "import os; os.abort()")
    planted.install_callback("ends", "import os; os._exit(3)")
    planted.install_callback("loud", "print('hello')\n" + GOOD_CALLBACK)
    planted.install_callback("heavy", "import sqlite3, time; time.sleep(0.01)\n" + GOOD_CALLBACK)
    planted.install_distribution("expfw-stray", GOOD_CALLBACK, {"models/stray": "Good"})
    code, out, err = call("plugins", "list", "--json")
    assert (code, err) == (0, "")
    listed = {values["name"]: values for values in json.loads(out)}
    for name, (_, expected) in FAULTS.items():
        assert not listed[name]["usable"]
        assert expected in listed[name]["reason"], name
        assert f"expfw-{name.replace('_', '-')} 1.0" in listed[name]["reason"]
    problem = "'dies' of expfw-dies 1.0 cannot be inspected: its process ended early with signal 9 (SIGKILL)"
    assert problem in listed["dies"]["reason"]
    assert "its process ended early with signal 6 (SIGABRT)" in listed["crash"]["reason"]
    assert "its process ended early with exit code 3" in listed["ends"]["reason"]
    assert listed["good"]["usable"]
    assert listed["good"]["hooks"] == ["expfw_epoch_ended"]
    assert 0 <= listed["good"]["import_seconds"] < 5
    option = {"option": "callback.good.units", "type": "int", "required": False, "default": 4, "help": "how many"}
    assert listed["good"]["options"] == [option]
    assert listed["mlp_keras"]["usable"]
    code, out, _ = call("plugins", "check", "--json")
    assert code == 1
    *checked, stray = json.loads(out)
    assert (stray["name"], stray["distribution"]) == (None, "expfw-stray")
    assert stray["problems"][0]["problem"] == "expfw-stray has entry points in the unknown group 'expfw.models'"
    faults = {values["name"]: values["problems"] for values in checked}
    others = ("dies", "crash", "ends", "loud")
    assert {name for name, plugin_faults in faults.items() if plugin_faults} == {*FAULTS, *others}
    assert all(fault["remedy"] for plugin_faults in faults.values() for fault in plugin_faults)
    assert "prints" in faults["loud"][0]["problem"]
    problem = "expfw-stray has entry points in the unknown group 'expfw.models'. Did you mean 'expfw.model'?"
    assert f"\nnot usable: {problem}\n" in call("plugins", "list")[1]
    code, out, _ = call("plugins", "check")
    assert problem in out
    assert f"{len(faults)} plugins checked, {len(FAULTS) + len(others)} with problems" in out


def test_an_error_of_the_inspection_is_not_reported_as_a_crash_of_the_plugin(planted):
    """Inspects a class whose attributes cannot be listed."""
    odd = "\n\nclass Odd(type(Good)):\n    def __dir__(cls):\n        raise RuntimeError('no ' + 'listing ' * 40)\n"
    planted.install_callback("rude", "raise KeyboardInterrupt('now')")
    planted.install_callback("shy", GOOD_CALLBACK + odd + "\n\nclass Good(Good, metaclass=Odd): pass\n")
    shy, rude = inspect_all([get_catalogue().get("callback", name) for name in ("shy", "rude")])
    assert "KeyboardInterrupt: now); fix" in rude["reason"]
    assert "'shy' of expfw-shy 1.0 cannot be inspected: RuntimeError: no listing" in shy["reason"]


@pytest.mark.parametrize(("cut", "expected"), [(truncate_text, "some words..."), (truncate_start, "...are many")])
def test_texts_are_truncated_between_words(cut, expected):
    assert cut("some words of which there are many", 15) == expected
    assert cut("short enough", 15) == "short enough"
    assert len(cut("x" * 40, 15)) == 15


def test_counts_are_pluralized():
    assert [pluralize(number, "step") for number in (0, 1, 2, 1000)] == ["0 steps", "1 step", "2 steps", "1,000 steps"]


def test_a_hanging_import_is_stopped(planted):
    planted.install_callback("hangs", "import time; time.sleep(600)")
    entries = [get_catalogue().get("callback", name) for name in ("hangs", "good")]
    hangs, good = inspect_all(entries, limit=1.0)
    assert "'hangs' of expfw-hangs 1.0 cannot be inspected: its process did not end within 1 s; fix" in hangs["reason"]
    assert (good["reason"], good["problems"]) == (None, [])


def test_an_import_error_keeps_its_cause(planted):
    planted.install_callback("absent", "import nonexistent_module")
    with pytest.raises(expfw.PluginError) as caught:
        get_catalogue().get("callback", "absent").load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
