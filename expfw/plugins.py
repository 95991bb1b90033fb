"""Plugins: found by metadata without an import, loaded when chosen, checked before use."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import inspect
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from expfw import api, hook_check, left_out, options_check, plugin_file, requirement, schema, variants
from expfw.errors import ExpfwError, PluginError, did_you_mean, one_line
from expfw.importing import imported
from expfw.left_out import LeftOut, canonical

KINDS: dict[str, type[api.Plugin]] = {
    base.kind: base for base in (api.Dataset, api.Model, api.Backend, api.Callback, api.Tracker)
}
SEVERAL = ("callback", "tracker")
"""Kinds of which a run may have several, each below its name."""

_DAMAGED = (OSError, ValueError, TypeError, AttributeError, KeyError)
"""What reading metadata raises that somebody has damaged."""

_NAME = re.compile(r"[\w-]+")
"""What a configuration can hold: a dot there would begin the name of an option."""

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

    @property
    def unmet(self) -> str | None:
        """That it is made for other releases of expfw, or has a name that nobody can type, in one line; else None."""
        what = requirement.unmet(self.requires) if self.requires is not None else None
        if not _NAME.fullmatch(self.name):
            what = f"has a name that cannot be chosen; expected letters, digits, - and _; mend {self.distribution}"
        return what and f"{self.who} {what}"

    def load(self) -> type[api.Plugin]:
        """Imports the class and checks it.

        Raises:
            PluginError: it cannot be imported, or is not a plugin of this kind; names plugin and distribution.
        """
        if self.unmet is not None:
            raise PluginError(self.unmet)
        cls = self.loaded or self._import()
        base = KINDS[self.kind]
        if not (inspect.isclass(cls) and issubclass(cls, base)):
            what = f"{self.who}: {self.target} is not a subclass of expfw.{base.__name__}"
            raise PluginError(f"{what}; mend or uninstall {self.distribution}")
        for what, remedy in options_check.problems(cls):
            raise PluginError(f"{self.who}{what}; {remedy}")
        for what, remedy in hook_check.problems(cls, base):
            raise PluginError(f"{self.who} {what}; {remedy}")
        return cls

    def options(self) -> type:
        """Its options as OmegaConf takes them, with a key that says whose they are.

        Raises:
            PluginError: as `load`; or an option has a type that a configuration cannot hold.
        """
        config = self.load().Config
        try:
            return schema.omegaconf_class(config, {"plugin": self.name})
        except (PluginError, TypeError, ValueError) as error:
            raise PluginError(f"{self.who}: {error}") from error
        except Exception as error:  # of a default factory of its author's
            raise PluginError(f"{self.who}: its Config raises {type(error).__name__}: {error}") from error

    def configured(self, values: Mapping[str, Any], where: str) -> Any:
        """Its `Config` with these options, each one checked; `where` is their dotted key.

        Raises:
            ConfigError: the options are refused; PluginError: as `load`, or its Config is broken.
        """
        config = self.load().Config
        try:
            return schema.build(config, values, where)
        except ExpfwError:
            raise
        except Exception as error:
            own = "its Config.__post_init__" if hasattr(config, "__post_init__") else "its Config"
            told = f"{self.who}: {own} raises {type(error).__name__}: {error}"
            raise PluginError(f"{told}; expected ValueError for what does not fit, and nothing else") from error

    def made(self, options: Any) -> api.Plugin:
        """The plugin itself.

        Raises:
            PluginError: as `load`, or it cannot be made with these options.
        """
        try:
            return self.load()(options, self.name)
        except ExpfwError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            remedy = f"give others, or mend {self.distribution}"
            raise PluginError(f"{self.who} cannot be made with its options ({what}); {remedy}") from error

    def _import(self) -> Any:
        if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+", self.target):
            raise PluginError(f"{self.who}: its entry point is {self.target!r}; expected module:Class")
        entry = importlib.metadata.EntryPoint(self.name, self.target, f"expfw.{self.kind}")
        return imported(entry.load, entry.module, self.who, f"mend or uninstall {self.distribution}")


@dataclass(frozen=True)
class Catalogue:
    """All plugins of this environment, plus those of the given plain files."""

    files: tuple[str, ...] = ()
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)

    @cached_property
    def found(self) -> dict[str, list[Found]]:
        """What there is of each kind, sorted by name. Nothing installed is imported for it."""
        by_kind: dict[str, list[Found]] = {kind: [] for kind in KINDS}
        for plugin in [*_installed(), *(p for file in self.files for p in _of_file(file))]:
            by_kind[plugin.kind].append(plugin)
        return {kind: sorted(plugins, key=lambda p: (p.name, p.distribution)) for kind, plugins in by_kind.items()}

    def names(self, kind: str) -> list[str]:
        """The option names of a kind that may be chosen."""
        chosen = (plugin for plugin in self.found[kind] if self.reason(plugin) is None)
        return sorted({plugin.name for plugin in chosen if _NAME.fullmatch(plugin.name)})

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one of that name, left out or not; `-` and `_` are the same."""
        return bool(self.called(kind, name))

    def off(self, kind: str, name: str) -> bool:
        """Whether all of that name are switched off."""
        same = self.called(kind, name)
        return bool(same) and all(self.left_out.off(p.kind, p.name, p.distribution) for p in same)

    def reason(self, plugin: Found) -> str | None:
        """Why it is left out; None where it may be used."""
        return self.left_out.reason(plugin.kind, plugin.name, plugin.distribution)

    def get(self, kind: str, name: str) -> Found:
        """The plugin of that name.

        Raises:
            PluginError: there is none, or there are two, or it is left out.
        """
        same = self.called(kind, name)
        usable = [plugin for plugin in same if self.reason(plugin) is None]
        if not same:
            names = sorted({*self.names(kind), *variants.of(kind)})
            raise PluginError(f"no {kind} plugin {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}")
        if not usable:
            raise PluginError(f"{same[0].who} {self.reason(same[0])}")
        if len(usable) > 1:
            raise PluginError(_clash(usable))
        return usable[0]

    def clash(self, plugin: Found) -> str | None:
        """What to say where others have its name; None where none has."""
        usable = [one for one in self.called(plugin.kind, plugin.name) if self.reason(one) is None]
        return _clash(usable) if len(usable) > 1 else None

    def trouble(self, plugin: Found) -> str | None:
        """Why it cannot be used, as far as that can be told without importing it, in one line; None where it may be."""
        if reason := self.reason(plugin):
            return f"{plugin.who} {reason}"
        return plugin.unmet or self.clash(plugin)

    def strays(self) -> Iterator[tuple[str, str, str]]:
        """Entry points that look like ours, and are of no kind: distribution, what is wrong, what to do."""
        known = [f"expfw.{kind}" for kind in KINDS]
        for distribution in importlib.metadata.distributions():
            with contextlib.suppress(*_DAMAGED):  # told of when the plugins were looked for
                groups = {point.group for point in distribution.entry_points if point.group.startswith("expfw.")}
                for group in sorted(groups - set(known)):
                    owner = distribution.name or _place(distribution)
                    what = f"{owner} has entry points {group!r}, which is no kind of plugin"
                    yield owner, what, did_you_mean(group, known).strip() or f"The kinds are: {', '.join(known)}"

    def check_known(self, words: Sequence[str]) -> None:
        """Refuses words that name no plugin and no distribution with plugins.

        Raises:
            PluginError: one does not.
        """
        for word, meant in self.unknown(words):
            raise PluginError(
                f"no plugin or distribution {word!r} to go without.{meant} `expfw plugins list` shows all there are"
            )

    def unknown(self, words: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Those that name no plugin and no distribution with plugins, with what may have been meant."""
        everybody = [(p.kind, p.name, p.distribution) for plugins in self.found.values() for p in plugins]
        known = sorted({word for _, name, distribution in everybody for word in (name, distribution)})
        for word in words:
            if not any(LeftOut((word,)).off(*plugin) for plugin in everybody):
                yield word, did_you_mean(word, known)

    def tell_unknown(self) -> None:
        """Warns of what the environment switches off or allows, and there is none of."""
        for variable, words in ((left_out.DISABLE, self.left_out.disabled), (left_out.ALLOW, self.left_out.allowed)):
            if unknown := list(self.unknown(words)):
                said = ", ".join(f"{word!r}{meant and f' ({meant.strip()})'}" for word, meant in unknown)
                log.warning("%s names what is no plugin and no distribution with plugins: %s", variable, said)

    def called(self, kind: str, name: str) -> list[Found]:
        """All of that name, however many, left out or not."""
        return [plugin for plugin in self.found[kind] if canonical(plugin.name) == canonical(name)]


def _clash(plugins: Sequence[Found]) -> str:
    """What to say of several plugins of one kind and name."""
    what = (
        f"{plugins[0].kind} plugin {plugins[0].name!r} is declared by {' and '.join(p.distribution for p in plugins)}"
    )
    if files := [p.distribution.removeprefix("file ") for p in plugins if not p.version]:
        if len(set(files)) < len(files):
            return f"{plugins[0].kind} plugin {plugins[0].name!r} is twice in {files[-1]}; rename one of the classes"
        return f"{what}; rename the class, or leave out -p {files[-1]}"
    owner = [p.distribution for p in plugins if p.distribution != "expfw"] or ["expfw"]
    return f"{what}; uninstall {owner[-1]}, switch it off with -p no:{owner[-1]}, or rename a plugin of yours"


def catalogue(files: tuple[str, ...] = ()) -> Catalogue:
    """The catalogue, made once per process, set of plugin files and what is left out."""
    return kept_catalogue(files, left_out.from_environment())


@cache
def kept_catalogue(files: tuple[str, ...], without: LeftOut) -> Catalogue:
    """The cache of `catalogue`."""
    return Catalogue(files, without)


def _installed() -> Iterable[Found]:
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            yield from _of_distribution(distribution, seen)
        except _DAMAGED as error:
            what = one_line(f"{type(error).__name__}: {error}")
            log.warning("the metadata of %s cannot be read (%s); install it again", _place(distribution), what)


def _of_distribution(distribution: importlib.metadata.Distribution, seen: set[str]) -> list[Found]:
    points = [p for p in distribution.entry_points if p.group.removeprefix("expfw.") in KINDS]
    if not points:
        return []
    if not (distribution.name and distribution.version):  # None where METADATA is absent or does not tell
        raise ValueError("METADATA with Name and Version expected")
    if distribution.name in seen:  # the same distribution twice on sys.path: the first one counts
        return []
    seen.add(distribution.name)
    ours = [r for r in distribution.requires or () if re.match(r"expfw\b(?![-_.])", r) and "extra ==" not in r]
    requires = ours[0] if ours else None
    return [
        Found(point.group[6:], point.name, point.value, distribution.name, distribution.version, requires)
        for point in points
    ]


def _place(distribution: importlib.metadata.Distribution) -> str:
    """How to name a distribution that does not tell its own name."""
    return str(getattr(distribution, "_path", None) or distribution.locate_file(""))


def _of_file(file: str) -> Iterable[Found]:
    for cls in plugin_file.classes(file):
        name = getattr(cls, "name", None) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        yield Found(cls.kind, name, f"{cls.__module__}:{cls.__qualname__}", f"file {file}", "", loaded=cls)
