"""What plugins may count on: documented with exact signatures, tested, and deprecated before it goes."""

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
    """As people write it; another way than docs/_generate/api_reference.py, which reads the source."""
    plain = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return f"def {function.__name__}{plain}\n"


@pytest.mark.parametrize("name", hook_check.get_specifications())
def test_every_hook_is_documented_with_its_signature(name):
    specification = hook_check.get_specifications()[name]
    assert signature(specification) in PAGE
    assert " ".join(inspect.getdoc(specification).split()) in " ".join(PAGE.split())


def answering(hook, seen, name, answer, wraps=False):
    """A plugin that implements one hook with all its arguments, as an author writes them."""
    arguments = list(inspect.signature(hook_check.get_specifications()[hook]).parameters)[1:]
    given = "{" + ", ".join(f"{one!r}: {one}" for one in arguments) + "}"
    body = f"    seen.append((name, {given}))\n    return {'[(yield), answer]' if wraps else 'answer'}\n"
    scope = {"seen": seen, "name": name, "answer": answer}
    exec(f"def {hook}({', '.join(['self', *arguments])}):\n{body}", scope)
    cls = type(name, (expfw.Callback,), {hook: expfw.hookimpl(wrapper=wraps)(scope[hook])})
    return cls(None, name), {one: object() for one in arguments}


@pytest.mark.parametrize("name", hook_check.get_specifications())
def test_every_hook_is_called_with_its_arguments_and_can_be_wrapped(name):
    seen = []
    first, given = answering(name, seen, "first", "one")
    second, _ = answering(name, seen, "second", "two")
    wrapper, _ = answering(name, seen, "wrapper", "around", wraps=True)
    answer = getattr(make_manager([first, second, wrapper], report=pytest.fail).hook, name)(**given)
    counts = not hook_check.get_specifications()[name].expfw_spec["firstresult"]
    assert [who for who, _ in seen] == (["wrapper", "first", "second"] if counts else ["wrapper", "first"])
    assert all(arguments == given for _, arguments in seen)
    assert answer == [["one", "two"] if counts else "one", "around"]


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
    (contracts.Dataset, "identity"): testing.DatasetContract.test_identity_tells_these_data.__name__,
    (contracts.Callback, "state"): testing.CallbackContract.test_state_comes_back.__name__,
    (contracts.Callback, "restore"): testing.CallbackContract.test_state_comes_back.__name__,
    (contracts.Tracker, "destination"): testing.TrackerContract.test_destination_is_a_name.__name__,
    (contracts.Tracker, "open"): testing.TrackerContract.test_delivers_a_run.__name__,
    (contracts.Tracker, "ship"): testing.TrackerContract.test_delivers_a_run.__name__,
    (contracts.Tracker, "close"): "test_the_shipper_closes_what_it_opened",
}
"""The test of each method that no hook leads to."""


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
    wanted = list(inspect.signature(getattr(base, name)).parameters)[1:]
    expected = {"load": (3,), "build": ("spec",)}.get(name) or tuple(arguments[one] for one in wanted)
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


def test_the_shipper_closes_what_it_opened(expfw_here, workdir):
    (workdir / "closes.py").write_text(CLOSES)
    words = ("dataset=line", "model=ols", "train.epochs=1", "callback=[]", "quiet=true")
    done = expfw_here("-p", "closes.py", "run", "tracker=[closes]", *words)
    assert done.code == 0, done.err
    kinds = (workdir / "runs" / "closed").read_text().split()
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_every_check_is_documented(name):
    assert f"| `{name}` |" in PAGE


@pytest.mark.parametrize(
    "cls", [expfw.Run, expfw.DataSpec, expfw.Splits, expfw.Split, expfw.AffineScaling, expfw.Optimizer]
)
def test_what_crosses_borders_is_documented_with_its_signatures(cls):
    section = PAGE.split(f"### expfw.{cls.__name__}\n")[1].split("\n### ")[0]
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_"):
            assert signature(method) in section, name
            assert inspect.getdoc(method), name


def test_every_name_is_documented():
    assert set(re.findall(r"^\| `expfw\.(\w+)` \| \w", PAGE, re.MULTILINE)) == set(expfw.__all__) - {"__version__"}
    assert f"| {expfw.API_VERSION} | 0.1 |" in PAGE


def test_plugins_and_examples_need_no_other_names():
    for path in [
        *ROOT.glob("plugins/**/*.py"),
        *ROOT.glob("docs/authors/examples/*.py"),
        *ROOT.glob("expfw/plugins/scaffold/template/**/*.py"),
    ]:
        if path.parent.name != "scaffold":
            found = re.findall(r"^\s*(?:from|import) (expfw\.[\w.]+)", path.read_text(), re.MULTILINE)
            assert set(found) <= {"expfw.testing"}, path


class Old(expfw.Callback):
    """Implements what goes away."""

    seen: list = []  # noqa: RUF012

    @expfw.hookimpl
    def expfw_old(self, run):
        self.seen.append(run)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run, trainer):
        self.seen.append(trainer)


class New(expfw.Callback):
    """Implements the same hook as it will be."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        Old.seen.append(self.name)


@pytest.fixture
def next_api(monkeypatch):
    """Hooks as they would be while a hook and an argument of another one are going away."""
    hookspec = hookspecs.hookspec

    class Observers:
        @hookspec(warn_on_impl=expfw.ApiWarning("expfw_old goes away with API 2; use expfw_epoch_ended"))
        def expfw_old(self, run): ...

        @hookspec(warn_on_impl_args={"trainer": expfw.ApiWarning("trainer goes away with API 2; use run")})
        def expfw_epoch_ended(self, run, trainer): ...

    for name, member in vars(hookspecs.Observers).items():
        if name.startswith("expfw_") and name != "expfw_epoch_ended":
            setattr(Observers, name, member)
    monkeypatch.setattr(hookspecs, "Observers", Observers)
    hook_check.get_specifications.cache_clear()
    Old.seen.clear()
    yield
    hook_check.get_specifications.cache_clear()


def test_what_goes_away_is_said_with_file_and_line_and_works_meanwhile(next_api):
    with pytest.warns(expfw.ApiWarning) as caught:
        hook = make_manager([Old(None, "old"), New(None, "new")], report=pytest.fail).hook
    assert [str(one.message) for one in caught] == [
        "trainer goes away with API 2; use run",
        "expfw_old goes away with API 2; use expfw_epoch_ended",
    ]
    assert {one.filename for one in caught} == {__file__}
    assert caught[1].lineno in range(*(Old.expfw_old.__code__.co_firstlineno + n for n in (0, 3)))
    hook.expfw_old(run="run")
    hook.expfw_epoch_ended(run="run", trainer="trainer")
    assert Old.seen == ["run", "trainer", "new"]


def test_and_found_by_the_contract(next_api, tmp_path):
    class OldContract(testing.CallbackContract):
        plugin = Old

    bench = Bench(OldContract, tmp_path)
    with pytest.raises(pytest.fail.Exception, match=r"expfw_old in a way that goes away; .*use expfw_epoch_ended"):
        bench.contract.test_hooks(bench)


def test_a_warning_of_the_api_is_seen_without_asking(workdir):
    """Python shows FutureWarning to users, where it hides DeprecationWarning."""
    assert issubclass(expfw.ApiWarning, FutureWarning)
    assert all(not issubclass(c, expfw.ApiWarning) for c in (DeprecationWarning, PendingDeprecationWarning))


def test_no_plugin_of_ours_uses_what_goes_away():
    for plugins in get_catalogue().entries.values():
        for found in plugins:
            cls = found.load()
            assert not list(hook_check.find_deprecations(cls, contracts.Plugin)), found.label
