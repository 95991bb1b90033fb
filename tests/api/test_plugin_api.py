"""The plugin API: documented with exact signatures, tested, deprecated before removal."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from conftest import ROOT

import expfw
from expfw import testing
from expfw.api import contracts, hookspecs
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.manager import make_manager
from expfw.plugins.validation import hooks as hook_check
from expfw.plugins.validation import methods
from expfw.testing import Bench

PAGE = (ROOT / "docs" / "authors" / "plugin-api.md").read_text()
KINDS = (contracts.Model, contracts.Dataset, contracts.Backend, contracts.Callback, contracts.Tracker)
METHODS = [(base, name) for base in KINDS for name in methods.get_contract_methods(base)]
CHECKS = {name for one in testing.__all__ for name in dir(getattr(testing, one)) if name.startswith("test_")}


def signature(function):
    """Returns the signature as source code, independently of docs/_generate/api_reference.py."""
    plain = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return f"def {function.__name__}{plain}\n"


@pytest.mark.parametrize("name", hook_check.get_specifications())
def test_every_hook_is_documented_with_its_signature(name):
    specification = hook_check.get_specifications()[name]
    assert signature(specification) in PAGE
    assert " ".join(inspect.getdoc(specification).split()) in " ".join(PAGE.split())


def implementing(hook, seen, name, answer, wraps=False):
    """Returns a plugin that implements one hook with all its arguments, and arguments to call the hook."""
    arguments = list(inspect.signature(hook_check.get_specifications()[hook]).parameters)[1:]
    received = "{" + ", ".join(f"{one!r}: {one}" for one in arguments) + "}"
    body = f"    seen.append((name, {received}))\n    return {'[(yield), answer]' if wraps else 'answer'}\n"
    scope = {"seen": seen, "name": name, "answer": answer}
    exec(f"def {hook}({', '.join(['self', *arguments])}):\n{body}", scope)
    cls = type(name, (expfw.Callback,), {hook: expfw.hookimpl(wrapper=wraps)(scope[hook])})
    return cls(None, name), {one: object() for one in arguments}


@pytest.mark.parametrize("name", hook_check.get_specifications())
def test_every_hook_is_called_with_its_arguments_and_can_be_wrapped(name):
    seen = []
    first, arguments = implementing(name, seen, "first", "one")
    second, _ = implementing(name, seen, "second", "two")
    wrapper, _ = implementing(name, seen, "wrapper", "around", wraps=True)
    result = getattr(make_manager([first, second, wrapper], report=pytest.fail).hook, name)(**arguments)
    all_called = not hook_check.get_specifications()[name].expfw_spec["firstresult"]
    assert [plugin for plugin, _ in seen] == (["wrapper", "first", "second"] if all_called else ["wrapper", "first"])
    assert all(received == arguments for _, received in seen)
    assert result == [["one", "two"] if all_called else "one", "around"]


@pytest.mark.parametrize(("base", "name"), METHODS)
def test_every_contract_method_is_documented_with_its_signature(base, name):
    section = PAGE.split(f"### expfw.{base.__name__}\n")[1].split("\n### ")[0]
    assert signature(getattr(base, name)) in section


HOOK_OF = {"build": "expfw_build_model", "load": "expfw_load_data"}
ELSEWHERE = {
    (contracts.Backend, "prepare"): "test_a_backend_prepares_before_the_model_is_built_in_its_scope",
    (contracts.Backend, "scope"): "test_a_backend_prepares_before_the_model_is_built_in_its_scope",
    (contracts.Backend, "role"): "test_a_backend_may_only_serve",
    (contracts.Backend, "serve"): "test_a_backend_may_only_serve",
    (contracts.Dataset, "identity"): testing.DatasetContract.test_identity_is_stable.__name__,
    (contracts.Callback, "state"): testing.CallbackContract.test_state_is_restored.__name__,
    (contracts.Callback, "restore"): testing.CallbackContract.test_state_is_restored.__name__,
    (contracts.Tracker, "destination"): testing.TrackerContract.test_destination_is_stable.__name__,
    (contracts.Tracker, "open"): testing.TrackerContract.test_delivers_a_run.__name__,
    (contracts.Tracker, "ship"): testing.TrackerContract.test_delivers_a_run.__name__,
    (contracts.Tracker, "close"): "test_the_shipper_closes_its_tracker",
}
"""Tests of the methods that are not called through a hook."""


@pytest.mark.parametrize(("base", "name"), METHODS)
def test_every_contract_method_has_a_test(base, name, tmp_path):
    hook = HOOK_OF.get(name, f"expfw_{name}")
    if hook not in vars(base):
        assert ELSEWHERE[base, name] in {*globals(), *CHECKS}
        return
    seen, answer = [], (None if name == "restore" else "answer")
    method = lambda self, *arguments: seen.append(arguments) or answer  # noqa: E731
    plugin = type("Mine", (base,), {name: method})(None, "mine")
    config = SimpleNamespace(seed=3, runs_dir=str(tmp_path), cache_gib=0.0)
    arguments = {one: object() for one in list(inspect.signature(hook_check.get_specifications()[hook]).parameters)[1:]}
    arguments |= {"config": config, "data": SimpleNamespace(spec="spec")}
    parameters = list(inspect.signature(getattr(base, name)).parameters)[1:]
    expected = {"load": (3,), "build": ("spec",)}.get(name) or tuple(arguments[one] for one in parameters)
    specified = inspect.signature(hook_check.get_specifications()[hook]).parameters
    hooks = make_manager([plugin], report=pytest.fail).hook
    result = getattr(hooks, hook)(**{one: arguments[one] for one in specified if one != "self"})
    assert seen == [expected]
    assert result == (True if name == "restore" else "answer")


def test_a_backend_prepares_before_the_model_is_built_in_its_scope():
    log = []

    class Ready(expfw.Backend):
        def prepare(self, config, run):
            log.append(("prepare", config, run))

        @contextmanager
        def scope(self):
            log.append("scope")
            yield
            log.append("left")

    class Built(expfw.Model):
        def build(self, data):
            log.append("build")
            return "model"

    hook = make_manager([Built(None, "built"), Ready(None, "ready")], report=pytest.fail).hook
    assert hook.expfw_build_model(config="config", run="run", data=SimpleNamespace(spec=None)) == "model"
    assert log == [("prepare", "config", "run"), "scope", "build", "left"]


SERVES = """
import expfw
class Serves(expfw.Backend):
    def role(self):
        return "serve"
    def serve(self, config):
        print("served", config.seed, flush=True)
"""


def test_a_backend_may_only_serve(expfw_here, workdir):
    (workdir / "serves.py").write_text(SERVES)
    done = expfw_here("-p", "serves.py", "run", "backend=serves", "seed=8")
    assert (done.code, done.out) == (0, "served 8\n"), done.err
    assert not (workdir / "runs").exists()


CLOSES = """
import expfw
class Closes(expfw.Tracker):
    def open(self, runs_dir):
        self.runs_dir = runs_dir
    def ship(self, folder, state, records):
        with open(self.runs_dir / "shipped", "a") as file:
            file.writelines(record["kind"] + " " for record in records)
    def close(self):
        (self.runs_dir / "shipped").rename(self.runs_dir / "closed")
"""


def test_the_shipper_closes_its_tracker(expfw_here, workdir):
    (workdir / "closes.py").write_text(CLOSES)
    overrides = ("dataset=line", "model=ols", "train.epochs=1", "callback=[]", "quiet=true")
    done = expfw_here("-p", "closes.py", "run", "tracker=[closes]", *overrides)
    assert done.code == 0, done.err
    kinds = (workdir / "runs" / "closed").read_text().split()
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_every_check_is_documented(name):
    assert f"| `{name}` |" in PAGE


@pytest.mark.parametrize(
    "cls", [expfw.Run, expfw.DataSpec, expfw.Splits, expfw.Split, expfw.AffineScaling, expfw.Optimizer]
)
def test_public_classes_are_documented_with_their_signatures(cls):
    section = PAGE.split(f"### expfw.{cls.__name__}\n")[1].split("\n### ")[0]
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_"):
            assert signature(method) in section, name
            assert inspect.getdoc(method), name


def test_every_name_is_documented():
    assert set(re.findall(r"^\| `expfw\.(\w+)` \| \w", PAGE, re.MULTILINE)) == set(expfw.__all__) - {"__version__"}
    assert f"| {expfw.API_VERSION} | 0.1 |" in PAGE


def test_plugins_and_examples_import_only_public_names():
    for path in [
        *ROOT.glob("plugins/**/*.py"),
        *ROOT.glob("docs/authors/examples/*.py"),
        *ROOT.glob("expfw/plugins/scaffold/template/**/*.py"),
    ]:
        if path.parent.name != "scaffold":
            imports = re.findall(r"^\s*(?:from|import) (expfw\.[\w.]+)", path.read_text(), re.MULTILINE)
            assert set(imports) <= {"expfw.testing"}, path


class Old(expfw.Callback):
    """Implements a deprecated hook and a deprecated argument."""

    seen: list = []  # noqa: RUF012

    @expfw.hookimpl
    def expfw_old(self, run):
        self.seen.append(run)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run, trainer):
        self.seen.append(trainer)


class New(expfw.Callback):
    """Implements the hook without the deprecated argument."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        Old.seen.append(self.name)


@pytest.fixture
def next_api(monkeypatch):
    """Replaces the hooks: one hook is deprecated, and one argument of another hook."""
    hookspec = hookspecs.hookspec

    class Observers:
        @hookspec(warn_on_impl=expfw.ApiWarning("expfw_old will be removed in API 2; use expfw_epoch_ended"))
        def expfw_old(self, run): ...

        @hookspec(warn_on_impl_args={"trainer": expfw.ApiWarning("trainer will be removed in API 2; use run")})
        def expfw_epoch_ended(self, run, trainer): ...

    for name, member in vars(hookspecs.Observers).items():
        if name.startswith("expfw_") and name != "expfw_epoch_ended":
            setattr(Observers, name, member)
    monkeypatch.setattr(hookspecs, "Observers", Observers)
    hook_check.get_specifications.cache_clear()
    Old.seen.clear()
    yield
    hook_check.get_specifications.cache_clear()


def test_deprecated_hooks_warn_with_file_and_line_and_still_work(next_api):
    with pytest.warns(expfw.ApiWarning) as caught:
        hook = make_manager([Old(None, "old"), New(None, "new")], report=pytest.fail).hook
    assert [str(one.message) for one in caught] == [
        "trainer will be removed in API 2; use run",
        "expfw_old will be removed in API 2; use expfw_epoch_ended",
    ]
    assert {one.filename for one in caught} == {__file__}
    assert caught[1].lineno in range(*(Old.expfw_old.__code__.co_firstlineno + n for n in (0, 3)))
    hook.expfw_old(run="run")
    hook.expfw_epoch_ended(run="run", trainer="trainer")
    assert Old.seen == ["run", "trainer", "new"]


def test_the_contract_finds_a_deprecated_hook(next_api, tmp_path):
    class OldContract(testing.CallbackContract):
        plugin = Old

    bench = Bench(OldContract, tmp_path)
    with pytest.raises(pytest.fail.Exception, match=r"expfw_old in a deprecated way; .*use expfw_epoch_ended"):
        bench.contract.test_hooks(bench)


def test_api_warnings_are_shown_by_default(workdir):
    """Python shows FutureWarning to users, but hides DeprecationWarning."""
    assert issubclass(expfw.ApiWarning, FutureWarning)
    assert all(not issubclass(c, expfw.ApiWarning) for c in (DeprecationWarning, PendingDeprecationWarning))


def test_built_in_plugins_use_no_deprecated_hooks():
    for entries in get_catalogue().entries.values():
        for entry in entries:
            cls = entry.load()
            assert not list(hook_check.find_deprecations(cls, contracts.Plugin)), entry.label
