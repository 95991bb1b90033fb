"""One plugin that is wrong is one line, which names it and its distribution, and costs nobody else anything."""

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
    "syntax": ("def f(:", "site/expfw_syntax.py, line 1)); mend or uninstall expfw-syntax"),
    "raises": ("raise RuntimeError('two\\nlines')", "cannot be imported (RuntimeError: two lines)"),
    "exits": ("import sys; sys.exit(3)", "cannot be imported (SystemExit: 3)"),
    "ends": ("import os; os._exit(0)", "cannot be imported (SystemExit: os._exit(0)); mend or uninstall expfw-ends"),
    "no_class": ("x = 1", "cannot be imported (AttributeError: module 'expfw_no_class' has no attribute 'Good')"),
    "no_dataclass": (NO_DATACLASS, "its Config is not a dataclass; put @dataclass above it"),
    "hook_of_another_kind": (
        GOOD_CALLBACK.replace("expfw_epoch_ended", "expfw_evaluation"),
        "implements expfw_evaluation, which is no hook; did you mean 'expfw_evaluated'?",
    ),
    "hook_that_it_may_wrap": (
        GOOD_CALLBACK.replace("expfw_epoch_ended", "expfw_build_modle"),
        "implements expfw_build_modle, which is no hook; did you mean 'expfw_build_model'?",
    ),
    "unknown_hook": (UNKNOWN_HOOK, "implements expfw_epoch_end, which is no hook; did you mean 'expfw_epoch_ended'?"),
    "wrong_argument": (WRONG_ARGUMENT, "implements expfw_epoch_ended with the argument 'modle', which that hook has"),
    "unmarked": (UNMARKED, "has the method expfw_epoch_ended without a mark, so it is never called; put @expfw.hookim"),
    "wrong_base": (WRONG_BASE, "expfw_wrong_base:Good is not a subclass of expfw.Callback"),
    "instance": (INSTANCE, ": its Config is no class; write @dataclass"),
    "lower": (LOWER, "its options are in a class 'config', where nobody looks for them; name it Config"),
    "lost": (
        GOOD_CALLBACK + LOST,
        "its Config has the option 'more', which is lost since a class there is not a dataclass; put",
    ),
    "no_name": (NO_NAME, "cannot be made as Good(config, name) (too many positional arguments); give __init__ the arg"),
    "broken_check": (BROKEN_CHECK, ": its Config.__post_init__ raises AttributeError: 'Config' object has no attri"),
    "enum": (ENUM, "units has the type Colour, and a config holds no enums; use Literal['RED', 'BLUE']"),
    "keys": (KEYS, "has the type dict[int, str], and the keys in a config are texts; use dict[str, str]"),
    "wrong_default": (WRONG_DEFAULT, "the default of option Good.Config.units is 'x'; expected a whole number"),
    "no_self": (NO_SELF, "implements expfw_epoch_ended without self; write def expfw_epoch_ended(self, run)"),
    "async": (ASYNC, "implements expfw_epoch_ended with async def, and nobody awaits it; write def"),
    "no_yield": (NO_YIELD, "implements expfw_epoch_ended as a wrapper that does not yield; write return (yield)"),
    "never_run": (NEVER_RUN, "with a yield, so that its body is never run; write @expfw.hookimpl(wrapper=True)"),
    "odd_option": (ODD_OPTION, "has the type complex, which a config cannot hold"),
}


def others_are_well(call):
    code, out, err = call("run", "--cfg", "job", "+callback=good")
    assert (code, err) == (0, "")
    assert "plugin: good" in out


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_one_is_one_line_for_who_chooses_it(planted, call, name):
    code, expected = FAULTS[name]
    planted.install_distribution(f"expfw-{name.replace('_', '-')}", code, {f"callback/{name}": "Good"}, version="2.1")
    done, out, err = call("run", "--cfg", "job", f"+callback={name}")
    assert (done, out, err.count("\n")) == (2, "", 1)
    assert f"callback plugin '{name}' of expfw-{name.replace('_', '-')} 2.1" in err
    assert expected in err
    others_are_well(call)
    assert name in call("plugins", "list")[1]


def test_one_that_cannot_be_made_is_told_of_with_its_distribution(planted, call):
    planted.install_distribution("expfw-fails", FAILS, {"callback/fails": "Good"})
    who = "callback plugin 'fails' of expfw-fails 1.0"
    with pytest.raises(expfw.PluginError, match=re.escape(f"{who} cannot be made with its options (RuntimeError: b")):
        get_catalogue().get("callback", "fails").construct(None)


def test_a_range_that_is_not_met(planted, call):
    planted.install_distribution("expfw-late", GOOD_CALLBACK, {"callback/late": "Good"}, requires="expfw (>=99)")
    planted.install_distribution("expfw-odd", GOOD_CALLBACK, {"callback/odd": "Good"}, requires="expfw about 3")
    who = "callback plugin 'late' of expfw-late 1.0 is made for expfw>=99, this is expfw"
    code, _, err = call("run", "--cfg", "job", "+callback=late")
    assert (code, err.count("\n")) == (2, 1)
    assert who in err
    assert "'expfw about 3', which is no requirement" in call("run", "--cfg", "job", "+callback=odd")[2]
    assert f"\nnot usable: {who}" in call("plugins", "list")[1]
    others_are_well(call)


def test_a_distribution_that_does_not_say_which_expfw_it_is_made_for(planted, call):
    planted.install_distribution("expfw-any", GOOD_CALLBACK, {"callback/any": "Good"}, requires=None)
    code, out, _ = call("plugins", "check", "any")
    assert code == 1
    assert 'versions: its distribution does not say which expfw it is made for\n    -> add "expfw>=0.1,<1"' in out
    assert call("run", "--cfg", "job", "+callback=any")[0] == 0


def test_a_requirement_of_tests_is_none_of_the_plugins(planted):
    assert get_catalogue().get("callback", "good").requires == "expfw<1,>=0.1"


def test_two_distributions_with_one_name(planted, call):
    planted.install_distribution("expfw-rival", GOOD_CALLBACK, {"callback/good": "Good", "callback/other": "Good"})
    code, _, err = call("run", "--cfg", "job", "+callback=good")
    assert (code, err.count("\n")) == (2, 1)
    assert re.search("callback plugin 'good' is declared by expfw-(rival|good) and expfw-(rival|good); uninstall", err)
    assert re.search("switch it off with -p no:expfw-(rival|good), or rename", err)
    assert call("run", "--cfg", "job", "+callback=other")[0] == 0
    for off, kept in (("expfw-rival", "expfw-good"), ("expfw_good", "expfw-rival")):
        code, out, _ = call("-p", f"no:{off}", "run", "--cfg", "job", "+callback=good")
        assert code == 0
        with disabling.use_variables({disabling.DISABLE_VARIABLE: off}):
            assert get_catalogue().get("callback", "good").distribution == kept
    code, out, _ = call("plugins", "check", "good")
    assert code == 1
    assert out.count("is declared by") == 2


@pytest.mark.parametrize("as_file", [True, False])
def test_the_advice_on_two_of_a_name_is_never_to_go_without_expfw(planted, call, workdir, as_file):
    """Whichever of them comes first."""
    if as_file:
        (workdir / "mine.py").write_text(GOOD_CALLBACK.replace("class Good", "class EarlyStopping"))
    planted.install_distribution("a-rival", GOOD_CALLBACK, {} if as_file else {"callback/early_stopping": "Good"})
    words = ["-p", "mine.py"] if as_file else []
    code, _, err = call(*words, "run", "--cfg", "job", "+callback=early_stopping")
    file = workdir / "mine.py"
    advice = (
        f"rename the class, or leave out -p {file}" if as_file else "uninstall a-rival, switch it off with -p no:a-"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert f"; {advice}" in err


def test_typos_in_the_environment_are_told_once(planted, call, caplog):
    said = {disabling.DISABLE_VARIABLE: "god,good", disabling.ALLOW_VARIABLE: "expfw,callback/xylophone"}
    with disabling.use_variables(said):
        assert call("plugins", "list")[0] == 0
    told = "names what is no plugin and no distribution with plugins:"
    assert [message for message in caplog.messages if "names what" in message] == [
        f"{disabling.DISABLE_VARIABLE} {told} 'god' (Did you mean 'good'?)",
        f"{disabling.ALLOW_VARIABLE} {told} 'callback/xylophone'",
    ]
    caplog.clear()
    with disabling.use_variables(
        {disabling.DISABLE_VARIABLE: "callback/good, expfw_good", disabling.ALLOW_VARIABLE: "expfw"}
    ):
        assert call("plugins", "list")[0] == 0
    assert not caplog.messages


def test_damaged_metadata_is_one_line_and_costs_nobody_anything(planted, call, caplog):
    planted.install_distribution("expfw-torn", GOOD_CALLBACK, {}, text="[expfw.callback]\nno equals sign\n")
    planted.install_distribution("expfw-twisted", GOOD_CALLBACK, {}, text="[expfw.callback]\ntwisted = not a module\n")
    with caplog.at_level(logging.WARNING, "expfw"):
        others_are_well(call)
    (line,) = [message for message in caplog.messages if "torn" in message]
    assert re.search(r"the metadata of \S+expfw_torn-1.0.dist-info cannot be read \(.*\); install it again", line)
    code, _, err = call("run", "--cfg", "job", "+callback=twisted")
    assert code == 2
    assert "'twisted' of expfw-twisted 1.0: its entry point is 'not a module'; expected module:Class" in err


@pytest.mark.parametrize("metadata", ["absent", "", "Metadata-Version: 2.1\nName: expfw-bare\n"])
def test_metadata_without_name_or_version_are_one_line(planted, call, caplog, metadata):
    planted.install_distribution("expfw-bare", GOOD_CALLBACK, {"callback/bare": "Good"}, metadata=metadata)
    if metadata == "absent":
        (planted.path / "expfw_bare-1.0.dist-info" / "METADATA").unlink()
    with caplog.at_level(logging.WARNING, "expfw"):
        others_are_well(call)
    (line,) = [message for message in caplog.messages if "bare" in message]
    assert re.search(r"the metadata of \S+expfw_bare-1.0.dist-info cannot be read \(.*\); install it again", line)
    assert " bare " not in call("plugins", "list")[1]


def test_what_a_plugin_prints_is_one_line_of_the_log(planted, call, caplog):
    handler = "import logging, sys\nhandler = logging.StreamHandler(sys.stdout)\nprint('hello')\nprint('you')\n"
    module = planted.install_distribution("expfw-loud", handler + GOOD_CALLBACK, {"callback/loud": "Good"})
    code, out, _ = call("run", "--cfg", "job", "+callback=loud")
    assert code == 0
    assert "hello" not in out
    (line,) = [message for message in caplog.messages if "prints" in message]
    assert line.startswith("callback plugin 'loud' of expfw-loud 1.0 prints when it is imported: 'hello you'")
    importlib.import_module(module).handler.stream.write("later\n")  # what it kept of stdout is of use all the same
    others_are_well(call)


def test_what_other_programs_and_native_libraries_print_for_a_plugin_is_kept_for_the_log(planted, call):
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


def test_a_child_that_an_import_forks_may_end(planted, call):
    forks = "import os\npid = os.fork()\nif pid == 0:\n    os._exit(3)\ncode = os.waitpid(pid, 0)[1]\n"
    module = planted.install_distribution(
        "expfw-forks", forks + "from os import _exit\n" + GOOD_CALLBACK, {"callback/forks": "Good"}
    )
    assert call("run", "--cfg", "job", "+callback=forks")[0] == 0
    assert os.waitstatus_to_exitcode(sys.modules[module].code) == 3
    pid = os.fork()  # and what it has kept of os._exit is of use afterwards
    if pid == 0:
        sys.modules[module]._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4


def test_imports_of_several_threads_leave_stdout_as_it_was(capfd):
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


def test_a_slow_import_is_told_of_while_it_goes_on(planted, call, caplog, monkeypatch):
    monkeypatch.setattr(importing, "SLOW_SECONDS", 0.05)
    planted.install_distribution(
        "expfw-slow", "import time; time.sleep(0.3)\n" + GOOD_CALLBACK, {"callback/slow": "Good"}
    )
    assert call("run", "--cfg", "job", "+callback=slow")[0] == 0
    (line,) = [message for message in caplog.messages if "slow" in message]
    assert line.startswith("callback plugin 'slow' of expfw-slow 1.0 is being imported for 0.05 s now")


@pytest.mark.slow
def test_all_of_them_side_by_side(planted, call):
    """One look at everything: each fault is told of with its plugin, and the good one is well."""
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
    listed = {one["name"]: one for one in json.loads(out)}
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
    assert stray["faults"][0]["what"] == "expfw-stray has entry points 'expfw.models', which is no kind of plugin"
    faults = {one["name"]: one["faults"] for one in checked}
    assert {name for name, found in faults.items() if found} == {*FAULTS, "dies", "crash", "loud"}
    assert all(fault["remedy"] for found in faults.values() for fault in found)
    assert "prints" in faults["loud"][0]["what"]
    said = "expfw-stray has entry points 'expfw.models', which is no kind of plugin. Did you mean 'expfw.model'?"
    assert f"\nnot usable: {said}\n" in call("plugins", "list")[1]
    code, out, _ = call("plugins", "check")
    assert said in out
    assert f"{len(faults)} plugins checked, {len(FAULTS) + 3} with faults" in out


def test_what_cannot_be_looked_at_is_not_told_as_a_crash_of_the_plugin(planted):
    """A class whose own attributes cannot be asked for."""
    odd = "\n\nclass Odd(type(Good)):\n    def __dir__(cls):\n        raise RuntimeError('no ' + 'listing ' * 40)\n"
    planted.install_distribution("expfw-rude", "raise KeyboardInterrupt('now')", {"callback/rude": "Good"})
    planted.install_distribution(
        "expfw-shy", GOOD_CALLBACK + odd + "\n\nclass Good(Good, metaclass=Odd): pass\n", {"callback/shy": "Good"}
    )
    shy, rude = inspect_all([get_catalogue().get("callback", name) for name in ("shy", "rude")], ())
    assert "ends the process that imports it, with code 1 (KeyboardInterrupt: now); mend" in rude["reason"]
    assert "'shy' of expfw-shy 1.0 cannot be looked at (RuntimeError: no listing" in shy["reason"]


@pytest.mark.parametrize(("cut", "expected"), [(truncate_text, "some words..."), (truncate_start, "...are many")])
def test_texts_are_cut_between_words(cut, expected):
    assert cut("some words of which there are many", 15) == expected
    assert cut("short enough", 15) == "short enough"
    assert len(cut("x" * 40, 15)) == 15


def test_one_thing_is_one_thing():
    assert [pluralize(number, "step") for number in (0, 1, 2, 1000)] == ["0 steps", "1 step", "2 steps", "1,000 steps"]


def test_an_import_that_hangs_is_given_up(planted):
    planted.install_distribution("expfw-hangs", "import time; time.sleep(600)", {"callback/hangs": "Good"})
    found = [get_catalogue().get("callback", name) for name in ("hangs", "good")]
    hangs, good = inspect_all(found, (), limit=1.0)
    assert "'hangs' of expfw-hangs 1.0 is not imported within 1 s; mend what" in hangs["reason"]
    assert (good["reason"], good["faults"]) == (None, [])


def test_what_is_heavy_is_told_of(planted):
    planted.install_distribution("keras", None, {}, text="")
    (planted.path / "keras.py").write_text("")  # by name, without its weight
    planted.install_distribution("expfw-heavy", "import keras\n" + GOOD_CALLBACK, {"callback/heavy": "Good"})
    (heavy,) = inspect_all([get_catalogue().get("callback", "heavy")], ())
    assert heavy["heavy"] == ["keras"]
    (fault,) = heavy["faults"]
    assert fault["what"] == "callback plugin 'heavy' of expfw-heavy 1.0 imports keras as soon as it is looked at"


def test_an_error_of_python_keeps_its_cause(planted):
    planted.install_distribution("expfw-absent", "import nonexistent_module", {"callback/absent": "Good"})
    with pytest.raises(expfw.PluginError) as caught:
        get_catalogue().get("callback", "absent").load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
