"""A faulty plugin is a one-line error with its name and distribution, and does not affect other plugins."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import threading
import time

import pytest
from support.fake_distributions import GOOD_CALLBACK

import expfw
from expfw.errors import truncate_start, truncate_text
from expfw.plugins import disabling, importing
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.inspection.child_inspection import inspect_all
from expfw.system.formatting import pluralize

NO_DATACLASS = GOOD_CALLBACK.replace("    @dataclass\n", "")
UNKNOWN_HOOK = GOOD_CALLBACK.replace("expfw_epoch_ended", "expfw_epoch_end")
WRONG_ARGUMENT = GOOD_CALLBACK.replace("self, run", "self, run, modle")
UNMARKED = GOOD_CALLBACK.replace("    @expfw.hookimpl\n", "")
WRONG_BASE = GOOD_CALLBACK.replace("expfw.Callback", "expfw.Model")
ODD_OPTION = GOOD_CALLBACK.replace("units: int = expfw.option(4", "units: complex = expfw.option(4j")
COLOUR = "import enum\n\nclass Colour(enum.Enum):\n    RED = 1\n    BLUE = 2\n"
ENUM = COLOUR + GOOD_CALLBACK.replace("units: int = expfw.option(4", "units: Colour = expfw.option(Colour.RED")
KEYS = GOOD_CALLBACK.replace("units: int = expfw.option(4", "units: dict[int, str] = expfw.option({}")
WRONG_DEFAULT = GOOD_CALLBACK.replace("option(4", "option('x'")
NO_SELF = GOOD_CALLBACK.replace("(self, run)", "(run)")
ASYNC = GOOD_CALLBACK.replace("def expfw", "async def expfw")
NO_YIELD = GOOD_CALLBACK.replace("hookimpl", "hookimpl(wrapper=True)")
NEVER_RUN = GOOD_CALLBACK.replace("pass", "yield")
INSTANCE = GOOD_CALLBACK + "\n\nGood.Config = Good.Config()\n"
CHECKED = "\n\n        def __post_init__(self):\n            self.unit.x\n"
BROKEN_CHECK = GOOD_CALLBACK.replace('help="how many")\n', 'help="how many")' + CHECKED)
LOWER = GOOD_CALLBACK.replace("class Config", "class config")
LOST = """

class Lost(Good):
    class Config(Good.Config):
        more: int = expfw.option(4, help="more")


Good = Lost
"""
NO_NAME = GOOD_CALLBACK + "\n    def __init__(self, config):\n        pass\n"
FAILS = GOOD_CALLBACK + "\n    def __init__(self, config, name):\n        raise RuntimeError('boom')\n"

FAULTS = {
    "absent_import": ("import nonexistent_module", "cannot be imported (ModuleNotFoundError: No module named 'nonexis"),
    "syntax": ("def f(:", "site/expfw_syntax.py, line 1)); fix or uninstall expfw-syntax"),
    "raises": ("raise RuntimeError('two\\nlines')", "cannot be imported (RuntimeError: two lines)"),
    "exits": ("import sys; sys.exit(3)", "cannot be imported (SystemExit: 3)"),
    "ends": ("import os; os._exit(0)", "cannot be imported (SystemExit: os._exit(0)); fix or uninstall expfw-ends"),
    "no_class": ("x = 1", "cannot be imported (AttributeError: module 'expfw_no_class' has no attribute 'Good')"),
    "no_dataclass": (NO_DATACLASS, "its Config is not a dataclass; put @dataclass above it"),
    "hook_of_another_kind": (
        GOOD_CALLBACK.replace("expfw_epoch_ended", "expfw_evaluation"),
        "implements the unknown hook expfw_evaluation; did you mean 'expfw_evaluated'?",
    ),
    "hook_that_it_may_wrap": (
        GOOD_CALLBACK.replace("expfw_epoch_ended", "expfw_build_modle"),
        "implements the unknown hook expfw_build_modle; did you mean 'expfw_build_model'?",
    ),
    "unknown_hook": (UNKNOWN_HOOK, "implements the unknown hook expfw_epoch_end; did you mean 'expfw_epoch_ended'?"),
    "wrong_argument": (WRONG_ARGUMENT, "implements expfw_epoch_ended with the unknown argument 'modle'; "),
    "unmarked": (
        UNMARKED,
        "has the method expfw_epoch_ended without @expfw.hookimpl, so it is never called; add @expfw.h",
    ),
    "wrong_base": (WRONG_BASE, "expfw_wrong_base:Good is not a subclass of expfw.Callback"),
    "instance": (INSTANCE, ": its Config is not a class; write @dataclass"),
    "lower": (LOWER, "its options are in a class 'config', which is ignored; rename it to Config"),
    "lost": (
        GOOD_CALLBACK + LOST,
        "its Config has the option 'more' in a class that is not a dataclass, so it is ignored; put",
    ),
    "no_name": (
        NO_NAME,
        "cannot be created as Good(config, name) (too many positional arguments); give __init__ the arg",
    ),
    "broken_check": (BROKEN_CHECK, ": its Config.__post_init__ raises AttributeError: 'Config' object has no attri"),
    "enum": (ENUM, "units has the type Colour, but enums are not supported; use Literal['RED', 'BLUE']"),
    "keys": (KEYS, "has the type dict[int, str], but keys must be text; use dict[str, str]"),
    "wrong_default": (WRONG_DEFAULT, "the default of option Good.Config.units is 'x'; expected a whole number"),
    "no_self": (NO_SELF, "implements expfw_epoch_ended without self; write def expfw_epoch_ended(self, run)"),
    "async": (ASYNC, "implements expfw_epoch_ended with async def, which is never awaited; write def"),
    "no_yield": (NO_YIELD, "implements expfw_epoch_ended as a wrapper that does not yield; write return (yield)"),
    "never_run": (NEVER_RUN, "with a yield, so its body never runs; write @expfw.hookimpl(wrapper=True)"),
    "odd_option": (ODD_OPTION, "has the type complex, which is not supported"),
}


def check_good_plugin(call):
    code, out, err = call("run", "--cfg", "job", "+callback=good")
    assert (code, err) == (0, "")
    assert "plugin: good" in out


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_plugin_is_a_one_line_error_if_selected(planted, call, name):
    code, expected = FAULTS[name]
    planted.install_distribution(f"expfw-{name.replace('_', '-')}", code, {f"callback/{name}": "Good"}, version="2.1")
    exit_code, out, err = call("run", "--cfg", "job", f"+callback={name}")
    assert (exit_code, out, err.count("\n")) == (2, "", 1)
    assert f"callback plugin '{name}' of expfw-{name.replace('_', '-')} 2.1" in err
    assert expected in err
    check_good_plugin(call)
    assert name in call("plugins", "list")[1]


def test_an_error_in_the_constructor_names_plugin_and_distribution(planted, call):
    planted.install_distribution("expfw-fails", FAILS, {"callback/fails": "Good"})
    label = "callback plugin 'fails' of expfw-fails 1.0"
    with pytest.raises(
        expfw.PluginError, match=re.escape(f"{label} cannot be created with its options (RuntimeError: ")
    ):
        get_catalogue().get("callback", "fails").construct(None)


def test_an_incompatible_version_range_is_an_error(planted, call):
    planted.install_distribution("expfw-late", GOOD_CALLBACK, {"callback/late": "Good"}, requires="expfw (>=99)")
    planted.install_distribution("expfw-odd", GOOD_CALLBACK, {"callback/odd": "Good"}, requires="expfw about 3")
    problem = "callback plugin 'late' of expfw-late 1.0 requires expfw>=99, but this is expfw"
    code, _, err = call("run", "--cfg", "job", "+callback=late")
    assert (code, err.count("\n")) == (2, 1)
    assert problem in err
    assert "invalid requirement 'expfw about 3'" in call("run", "--cfg", "job", "+callback=odd")[2]
    assert f"\nnot usable: {problem}" in call("plugins", "list")[1]
    check_good_plugin(call)


def test_a_distribution_without_a_version_range_of_expfw_is_a_fault(planted, call):
    planted.install_distribution("expfw-any", GOOD_CALLBACK, {"callback/any": "Good"}, requires=None)
    code, out, _ = call("plugins", "check", "any")
    assert code == 1
    assert 'versions: its distribution does not declare which expfw it requires\n    -> add "expfw>=0.1,<1"' in out
    assert call("run", "--cfg", "job", "+callback=any")[0] == 0


def test_a_requirement_of_an_extra_is_ignored(planted):
    assert get_catalogue().get("callback", "good").requires == "expfw<1,>=0.1"


def test_two_distributions_with_the_same_plugin_name(planted, call):
    planted.install_distribution("expfw-rival", GOOD_CALLBACK, {"callback/good": "Good", "callback/other": "Good"})
    code, _, err = call("run", "--cfg", "job", "+callback=good")
    assert (code, err.count("\n")) == (2, 1)
    assert re.search("callback plugin 'good' is declared by expfw-(rival|good) and expfw-(rival|good); uninstall", err)
    assert re.search("disable it with -p no:expfw-(rival|good), or rename", err)
    assert call("run", "--cfg", "job", "+callback=other")[0] == 0
    for disabled, remaining in (("expfw-rival", "expfw-good"), ("expfw_good", "expfw-rival")):
        code, out, _ = call("-p", f"no:{disabled}", "run", "--cfg", "job", "+callback=good")
        assert code == 0
        with disabling.use_variables({disabling.DISABLE_VARIABLE: disabled}):
            assert get_catalogue().get("callback", "good").distribution == remaining
    code, out, _ = call("plugins", "check", "good")
    assert code == 1
    assert out.count("is declared by") == 2


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
    problem = "contains unknown plugins or distributions:"
    assert [message for message in caplog.messages if problem in message] == [
        f"{disabling.DISABLE_VARIABLE} {problem} 'god' (Did you mean 'good'?)",
        f"{disabling.ALLOW_VARIABLE} {problem} 'callback/xylophone'",
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
    planted.install_distribution("expfw-bare", GOOD_CALLBACK, {"callback/bare": "Good"}, metadata=metadata)
    if metadata == "absent":
        (planted.path / "expfw_bare-1.0.dist-info" / "METADATA").unlink()
    with caplog.at_level(logging.WARNING, "expfw"):
        check_good_plugin(call)
    (line,) = [message for message in caplog.messages if "bare" in message]
    assert re.search(r"cannot read the metadata of \S+expfw_bare-1.0.dist-info \(.*\); reinstall it", line)
    assert " bare " not in call("plugins", "list")[1]


def test_text_that_a_plugin_prints_on_import_is_one_log_line(planted, call, caplog):
    handler = "import logging, sys\nhandler = logging.StreamHandler(sys.stdout)\nprint('hello')\nprint('you')\n"
    module = planted.install_distribution("expfw-loud", handler + GOOD_CALLBACK, {"callback/loud": "Good"})
    code, out, _ = call("run", "--cfg", "job", "+callback=loud")
    assert code == 0
    assert "hello" not in out
    (line,) = [message for message in caplog.messages if "prints" in message]
    assert line.startswith("callback plugin 'loud' of expfw-loud 1.0 prints on import: 'hello you'")
    importlib.import_module(module).handler.stream.write("later\n")  # a stream kept from the import still works
    check_good_plugin(call)


def test_output_of_programs_and_native_libraries_during_an_import_is_kept_for_the_log(planted, call):
    importing.take_noise()
    module = planted.install_distribution(
        "expfw-rough",
        "import os; os.system('echo of a shell'); os.write(2, b'of a library')\n" + GOOD_CALLBACK,
        {"callback/rough": "Good"},
    )
    code, out, err = call("run", "--cfg", "job", "+callback=rough")
    assert code == 0
    assert "of a" not in out + err
    assert importing.take_noise() == b"of a shell\nof a library"
    assert importing.take_noise() == b""
    assert "plugin: rough" in out
    assert module in sys.modules


def test_a_child_process_forked_by_an_import_may_exit(planted, call):
    forks = "import os\npid = os.fork()\nif pid == 0:\n    os._exit(3)\ncode = os.waitpid(pid, 0)[1]\n"
    module = planted.install_distribution(
        "expfw-forks", forks + "from os import _exit\n" + GOOD_CALLBACK, {"callback/forks": "Good"}
    )
    assert call("run", "--cfg", "job", "+callback=forks")[0] == 0
    assert os.waitstatus_to_exitcode(sys.modules[module].code) == 3
    pid = os.fork()  # a kept reference to os._exit works after the import
    if pid == 0:
        sys.modules[module]._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4


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


def test_a_slow_import_logs_a_warning_while_it_runs(planted, call, caplog, monkeypatch):
    monkeypatch.setattr(importing, "SLOW_SECONDS", 0.05)
    planted.install_distribution(
        "expfw-slow", "import time; time.sleep(0.3)\n" + GOOD_CALLBACK, {"callback/slow": "Good"}
    )
    assert call("run", "--cfg", "job", "+callback=slow")[0] == 0
    (line,) = [message for message in caplog.messages if "slow" in message]
    assert line.startswith("callback plugin 'slow' of expfw-slow 1.0 takes more than 0.05 s to import; ")


@pytest.mark.slow
def test_plugins_list_and_check_report_all_faults_together(planted, call):
    """Each fault is reported for its plugin; the good plugin has none."""
    for name, (code, _) in FAULTS.items():
        planted.install_distribution(f"expfw-{name.replace('_', '-')}", code, {f"callback/{name}": "Good"})
    planted.install_distribution(
        "expfw-dies", "import os, signal; print('x'); os.kill(os.getpid(), signal.SIGKILL)", {"callback/dies": "Good"}
    )
    planted.install_distribution("expfw-crash", "import os; os.abort()", {"callback/crash": "Good"})
    planted.install_distribution("expfw-loud", "print('hello')\n" + GOOD_CALLBACK, {"callback/loud": "Good"})
    planted.install_distribution(
        "expfw-heavy", "import sqlite3, time; time.sleep(0.01)\n" + GOOD_CALLBACK, {"callback/heavy": "Good"}
    )
    planted.install_distribution("expfw-stray", GOOD_CALLBACK, {"models/stray": "Good"})
    code, out, err = call("plugins", "list", "--json")
    assert (code, err) == (0, "")
    listed = {values["name"]: values for values in json.loads(out)}
    for name, (_, expected) in FAULTS.items():
        assert not listed[name]["usable"]
        assert expected in listed[name]["reason"], name
        assert f"expfw-{name.replace('_', '-')} 1.0" in listed[name]["reason"]
    assert "'dies' of expfw-dies 1.0 ends the process that imports it, with code -9" in listed["dies"]["reason"]
    assert "with code -6" in listed["crash"]["reason"]
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
    assert {name for name, plugin_faults in faults.items() if plugin_faults} == {*FAULTS, "dies", "crash", "loud"}
    assert all(fault["remedy"] for plugin_faults in faults.values() for fault in plugin_faults)
    assert "prints" in faults["loud"][0]["problem"]
    problem = "expfw-stray has entry points in the unknown group 'expfw.models'. Did you mean 'expfw.model'?"
    assert f"\nnot usable: {problem}\n" in call("plugins", "list")[1]
    code, out, _ = call("plugins", "check")
    assert problem in out
    assert f"{len(faults)} plugins checked, {len(FAULTS) + 3} with problems" in out


def test_an_error_of_the_inspection_is_not_reported_as_a_crash_of_the_plugin(planted):
    """Inspects a class whose attributes cannot be listed."""
    odd = "\n\nclass Odd(type(Good)):\n    def __dir__(cls):\n        raise RuntimeError('no ' + 'listing ' * 40)\n"
    planted.install_distribution("expfw-rude", "raise KeyboardInterrupt('now')", {"callback/rude": "Good"})
    planted.install_distribution(
        "expfw-shy", GOOD_CALLBACK + odd + "\n\nclass Good(Good, metaclass=Odd): pass\n", {"callback/shy": "Good"}
    )
    shy, rude = inspect_all([get_catalogue().get("callback", name) for name in ("shy", "rude")], ())
    assert "ends the process that imports it, with code 1 (KeyboardInterrupt: now); fix" in rude["reason"]
    assert "'shy' of expfw-shy 1.0 cannot be inspected (RuntimeError: no listing" in shy["reason"]


@pytest.mark.parametrize(("cut", "expected"), [(truncate_text, "some words..."), (truncate_start, "...are many")])
def test_texts_are_truncated_between_words(cut, expected):
    assert cut("some words of which there are many", 15) == expected
    assert cut("short enough", 15) == "short enough"
    assert len(cut("x" * 40, 15)) == 15


def test_counts_are_pluralized():
    assert [pluralize(number, "step") for number in (0, 1, 2, 1000)] == ["0 steps", "1 step", "2 steps", "1,000 steps"]


def test_a_hanging_import_is_stopped(planted):
    planted.install_distribution("expfw-hangs", "import time; time.sleep(600)", {"callback/hangs": "Good"})
    entries = [get_catalogue().get("callback", name) for name in ("hangs", "good")]
    hangs, good = inspect_all(entries, (), limit=1.0)
    assert "'hangs' of expfw-hangs 1.0 takes more than 1 s to import; fix its module-level code" in hangs["reason"]
    assert (good["reason"], good["problems"]) == (None, [])


def test_an_import_of_a_framework_is_a_fault(planted):
    planted.install_distribution("keras", None, {}, text="")
    (planted.path / "keras.py").write_text("")  # an empty module with the name of the framework
    planted.install_distribution("expfw-heavy", "import keras\n" + GOOD_CALLBACK, {"callback/heavy": "Good"})
    (heavy,) = inspect_all([get_catalogue().get("callback", "heavy")], ())
    assert heavy["heavy"] == ["keras"]
    (fault,) = heavy["problems"]
    assert fault["problem"] == "callback plugin 'heavy' of expfw-heavy 1.0 imports keras on import"


def test_an_import_error_keeps_its_cause(planted):
    planted.install_distribution("expfw-absent", "import nonexistent_module", {"callback/absent": "Good"})
    with pytest.raises(expfw.PluginError) as caught:
        get_catalogue().get("callback", "absent").load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
