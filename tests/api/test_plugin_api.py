"""The plugin API: documented with exact signatures, tested, deprecated before removal."""

from __future__ import annotations

import inspect
import itertools
import re
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace

import pytest
from conftest import ROOT

import expfw
from expfw import testing
from expfw.api import contracts, hookspecs
from expfw.plugins import validation
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.manager import make_manager
from expfw.testing import Bench

PAGE = (ROOT / "docs" / "authors" / "plugin-api.md").read_text()
KINDS = (contracts.Model, contracts.Dataset, contracts.Backend, contracts.Callback, contracts.Tracker)
HOOK_NAMES = {"build": "expfw_build_model", "load": "expfw_load_data"}
METHODS = [(base, name) for base in KINDS for name in validation.get_contract_methods(base)]
HOOKS = {(base, name): HOOK_NAMES.get(name, f"expfw_{name}") for base, name in METHODS}


def signature(function):
    """Returns the signature as source code, independently of docs/_generate/api_reference.py."""
    plain = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return f"def {function.__name__}{plain}\n"


def get_section(cls):
    return PAGE.split(f"### expfw.{cls.__name__}\n")[1].split("\n### ")[0]


def list_arguments(method):
    return list(inspect.signature(method).parameters)[1:]


@pytest.mark.parametrize("name", validation.get_specifications())
def test_every_hook_is_documented_with_its_signature(name):
    specification = validation.get_specifications()[name]
    assert signature(specification) in PAGE
    assert inspect.getdoc(specification).startswith("Called ")
    assert " ".join(inspect.getdoc(specification).split()) in " ".join(PAGE.split())
    assert len(list_arguments(specification)) <= 6


@pytest.mark.parametrize("name", validation.get_specifications())
def test_every_hook_is_called_with_its_arguments_and_can_be_wrapped(name):
    specification, seen = validation.get_specifications()[name], []

    def answer(self, *arguments):
        seen.append((self.name, arguments))
        return self.name

    def wrap(self, *arguments):
        seen.append((self.name, arguments))
        return [(yield), self.name]

    def make_plugin(label, function, wrapper=False):
        implementation = expfw.hookimpl(wrapper=wrapper)(wraps(specification)(function))
        return type(label, (expfw.Callback,), {name: implementation})(None, label)

    plugins = [make_plugin("first", answer), make_plugin("second", answer), make_plugin("around", wrap, wrapper=True)]
    arguments = {argument: object() for argument in list_arguments(specification)}
    result = getattr(make_manager(plugins, report=pytest.fail).hook, name)(**arguments)
    called = ["first"] if specification.expfw_spec["firstresult"] else ["first", "second"]
    assert seen == [(plugin, tuple(arguments.values())) for plugin in ["around", *called]]
    assert result == [called if len(called) > 1 else "first", "around"]


def test_every_contract_method_and_every_check_is_documented():
    assert [name for base, name in METHODS if signature(getattr(base, name)) not in get_section(base)] == []
    checks = {name for contract in testing.__all__ for name in dir(getattr(testing, contract))}
    assert [name for name in checks if name.startswith("test_") and f"| `{name}` |" not in PAGE] == []


@pytest.mark.parametrize(("base", "name"), [method for method, hook in HOOKS.items() if hook in vars(method[0])])
def test_a_method_is_called_by_its_hook(base, name, tmp_path):
    hook = HOOKS[base, name]
    seen, answer = [], (None if name == "restore" else "answer")
    method = lambda self, *arguments: seen.append(arguments) or answer  # noqa: E731
    plugin = type("Mine", (base,), {name: method})(None, "mine")
    config = SimpleNamespace(seed=3, runs_dir=str(tmp_path), cache_gib=0.0)
    values = {"config": config, "data": SimpleNamespace(spec="spec")}
    arguments = {one: values.get(one, object()) for one in list_arguments(validation.get_specifications()[hook])}
    passed = tuple(arguments.get(one) for one in list_arguments(getattr(base, name)))
    expected = {"load": (3,), "build": ("spec",)}.get(name, passed)
    result = getattr(make_manager([plugin], report=pytest.fail).hook, hook)(**arguments)
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


PLUGINS = """
import expfw
class Serves(expfw.Backend):
    def role(self):
        return "serve"
    def serve(self, config):
        print("served", config.seed, flush=True)

class Closes(expfw.Tracker):
    def open(self, runs_dir):
        self.runs_dir = runs_dir
    def ship(self, folder, state, records):
        with open(self.runs_dir / "shipped", "a") as file:
            file.writelines(record["kind"] + " " for record in records)
    def close(self):
        (self.runs_dir / "shipped").rename(self.runs_dir / "closed")
"""


def test_a_backend_may_only_serve(expfw_here, workdir):
    (workdir / "plugins.py").write_text(PLUGINS)
    done = expfw_here("-p", "plugins.py", "run", "backend=serves", "seed=8")
    assert (done.code, done.out) == (0, "served 8\n"), done.err
    assert not (workdir / "runs").exists()


def test_the_shipper_closes_its_tracker(expfw_here, workdir):
    (workdir / "plugins.py").write_text(PLUGINS)
    overrides = ("dataset=line", "model=ols", "train.epochs=1", "callback=[]", "quiet=true")
    done = expfw_here("-p", "plugins.py", "run", "tracker=[closes]", *overrides)
    assert done.code == 0, done.err
    kinds = (workdir / "runs" / "closed").read_text().split()
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")


@pytest.mark.parametrize(
    "cls", [expfw.Run, expfw.DataSpec, expfw.Splits, expfw.Split, expfw.AffineScaling, expfw.Optimizer]
)
def test_public_classes_are_documented_with_their_signatures(cls):
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_"):
            assert signature(method) in get_section(cls), name
            assert inspect.getdoc(method), name


def test_every_name_is_documented():
    assert set(re.findall(r"^\| `expfw\.(\w+)` \| \w", PAGE, re.MULTILINE)) == set(expfw.__all__) - {"__version__"}
    assert f"| {expfw.API_VERSION} | 0.1 |" in PAGE


def test_plugins_and_examples_import_only_public_names():
    folders = ("plugins/**", "docs/authors/examples", "expfw/plugins/scaffold/template/**")
    for path in (path for folder in folders for path in ROOT.glob(f"{folder}/*.py")):
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
    validation.get_specifications.cache_clear()
    Old.seen.clear()
    yield
    validation.get_specifications.cache_clear()


def test_deprecated_hooks_warn_with_file_and_line_and_still_work(next_api):
    with pytest.warns(expfw.ApiWarning) as caught:
        hook = make_manager([Old(None, "old"), New(None, "new")], report=pytest.fail).hook
    assert [str(one.message) for one in caught] == [
        "trainer will be removed in API 2; use run",
        "expfw_old will be removed in API 2; use expfw_epoch_ended",
    ]
    assert {one.filename for one in caught} == {__file__}
    assert issubclass(expfw.ApiWarning, FutureWarning)  # which Python shows to users, unlike DeprecationWarning
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


def test_built_in_plugins_use_no_deprecated_hooks():
    for entry in itertools.chain.from_iterable(get_catalogue().entries.values()):
        assert not list(validation.find_deprecations(entry.load(), contracts.Plugin)), entry.label
