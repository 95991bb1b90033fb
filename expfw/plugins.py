"""Plugins: found by metadata without an import, loaded when chosen, checked before use."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from expfw import api, hookspecs
from expfw.errors import PluginError, did_you_mean

KINDS: dict[str, type[api.Plugin]] = {
    base.kind: base for base in (api.Dataset, api.Model, api.Backend, api.Callback, api.Tracker)
}
SEVERAL = ("callback", "tracker")
"""Kinds of which a run may have several, each below its name."""

log = logging.getLogger("expfw")


@dataclass(frozen=True)
class Found:
    """A plugin as its entry point, or the file it is in, declares it."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    requires: str | None = None
    loaded: type[api.Plugin] | None = None

    @property
    def who(self) -> str:
        """How errors name it."""
        return f"{self.kind} plugin {self.name!r} of {self.source}"

    @property
    def source(self) -> str:
        """Where it is from: distribution and version."""
        return f"{self.distribution} {self.version}".rstrip()

    def load(self) -> type[api.Plugin]:
        """Imports the class and checks it.

        Raises:
            PluginError: it cannot be imported, or is not a plugin of this kind; names plugin and distribution.
        """
        _check_requirement(self)
        cls = self.loaded or self._import()
        base = KINDS[self.kind]
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            raise PluginError(f"{self.who}: {self.target} is not a subclass of expfw.{base.__name__}")
        if not hasattr(cls.Config, "__dataclass_fields__"):
            raise PluginError(f"{self.who}: its Config is not a dataclass; put @dataclass above it")
        return cls

    def _import(self) -> Any:
        entry = importlib.metadata.EntryPoint(self.name, self.target, f"expfw.{self.kind}")
        try:
            return entry.load()
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"{self.who} cannot be imported ({what}); mend or uninstall {self.distribution}"
            ) from error


@dataclass(frozen=True)
class Catalogue:
    """All plugins of this environment, plus those of the given plain files."""

    files: tuple[str, ...] = ()

    @cached_property
    def found(self) -> dict[str, list[Found]]:
        """What there is of each kind, sorted by name. Nothing installed is imported for it."""
        by_kind: dict[str, list[Found]] = {kind: [] for kind in KINDS}
        for plugin in [*_installed(), *(p for file in self.files for p in _of_file(file))]:
            by_kind[plugin.kind].append(plugin)
        return {kind: sorted(plugins, key=lambda p: p.name) for kind, plugins in by_kind.items()}

    def names(self, kind: str) -> list[str]:
        """The option names of a kind."""
        return sorted({plugin.name for plugin in self.found[kind]})

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one of that name; `-` and `_` are the same."""
        return any(canonical(plugin.name) == canonical(name) for plugin in self.found[kind])

    def get(self, kind: str, name: str) -> Found:
        """The plugin of that name.

        Raises:
            PluginError: there is none, or there are two.
        """
        same = [plugin for plugin in self.found[kind] if canonical(plugin.name) == canonical(name)]
        if not same:
            names = self.names(kind)
            raise PluginError(f"no {kind} plugin {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}")
        if len(same) > 1:
            owners = " and ".join(plugin.distribution for plugin in same)
            raise PluginError(
                f"{kind} plugin {name!r} is declared by {owners}; uninstall one, or rename a plugin of yours"
            )
        return same[0]


@cache
def catalogue(files: tuple[str, ...] = ()) -> Catalogue:
    """The catalogue, made once per process and set of plugin files."""
    return Catalogue(files)


def canonical(name: str) -> str:
    """A name as it is compared."""
    return name.replace("-", "_")


def _installed() -> Iterable[Found]:
    seen = set()
    for distribution in importlib.metadata.distributions():
        points = [p for p in distribution.entry_points if p.group.startswith("expfw.") and p.group[6:] in KINDS]
        if not points or distribution.name in seen:  # the same distribution twice on sys.path: the first one counts
            continue
        seen.add(distribution.name)
        requires = next((r for r in distribution.requires or () if re.match(r"expfw\b(?![-_.])", r)), None)
        for point in points:
            yield Found(point.group[6:], point.name, point.value, distribution.name, distribution.version, requires)


def _of_file(file: str) -> Iterable[Found]:
    module = _module_of_file(Path(file))
    classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    plugins = [c for c in classes if issubclass(c, api.Plugin)]
    if not plugins:
        raise PluginError(
            f"{file} defines no plugin; expected a subclass of expfw.Model, Dataset, Backend, Callback or Tracker"
        )
    for cls in plugins:
        name = getattr(cls, "name", None) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        yield Found(cls.kind, name, f"{module.__name__}:{cls.__qualname__}", f"file {file}", "", loaded=cls)


def module_name(file: Path) -> str:
    """The name that the module of a plugin file has in this process."""
    return "expfw_file_" + re.sub(r"\W", "_", str(file.resolve()))


def _module_of_file(file: Path) -> ModuleType:
    name = module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise PluginError(f"no plugin file {file}; expected a Python file with a plugin class")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python file; expected a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look the module up while it runs
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"plugin file {file} cannot be imported ({type(error).__name__}: {error})") from error
    return module


def _check_requirement(plugin: Found) -> None:
    if plugin.requires is None:
        return
    from packaging.requirements import Requirement

    from expfw.version import __version__

    wanted = Requirement(plugin.requires).specifier
    if not wanted.contains(__version__, prereleases=True):
        raise PluginError(
            f"{plugin.who} is made for expfw{wanted}, this is expfw {__version__}; install a release that fits"
        )


def manager(plugins: Iterable[api.Plugin], report: Callable[[str], None]) -> pluggy.PluginManager:
    """One run's plugin manager: the given plugins registered, their observing hooks guarded.

    Args:
        plugins: in the order in which their hooks are to be called.
        report: called with one line when an observing hook raised.

    Raises:
        PluginError: a plugin implements a hook that does not exist, or with arguments it does not have.
    """
    made = pluggy.PluginManager("expfw")
    made.add_hookspecs(hookspecs.Providers)
    made.add_hookspecs(hookspecs.Observers)
    for plugin in reversed(list(plugins)):  # pluggy calls the last registered first
        who = f"{plugin.kind} plugin {plugin.name!r}"
        try:
            made.register(plugin, name=f"{plugin.kind}:{plugin.name}")
            made.check_pending()
        except pluggy.PluginValidationError as error:
            what = re.sub(r"\s+", " ", str(error))
            raise PluginError(f"{who} has a hook that does not fit: {what}; see expfw/hookspecs.py") from error
    _guard_observers(made, report)
    return made


def _guard_observers(made: pluggy.PluginManager, report: Callable[[str], None]) -> None:
    for hook_name in vars(hookspecs.Observers):
        if not hook_name.startswith("expfw_"):
            continue
        for implementation in getattr(made.hook, hook_name).get_hookimpls():
            if not implementation.wrapper and not implementation.hookwrapper:
                implementation.function = _guarded(implementation.function, implementation.plugin, hook_name, report)


def _guarded(
    function: Callable[..., Any], plugin: api.Plugin, hook_name: str, report: Callable[[str], None]
) -> Callable[..., Any]:
    usable = True

    def call(*arguments: Any) -> Any:
        nonlocal usable
        if not usable:
            return None
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            usable = False
            what = f"{type(error).__name__}: {error}"
            report(f"{plugin.kind} plugin {plugin.name!r} failed in {hook_name} ({what}); off for this run")
            log.exception("%s in %s", plugin.name, hook_name)
            return None

    return call
