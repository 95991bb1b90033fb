"""Plugins: found by metadata without an import, loaded when chosen, checked before use."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from expfw.errors import PluginError, did_you_mean, one_line
from expfw.plugins import disabled, plain_files, variants
from expfw.plugins.disabled import LeftOut, canonical
from expfw.plugins.entry import Found
from expfw.plugins.kinds import KINDS

_DAMAGED = (OSError, ValueError, TypeError, AttributeError, KeyError)
"""What reading metadata raises that somebody has damaged."""

log = logging.getLogger("expfw")


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
        return sorted({plugin.name for plugin in chosen if plugin.has_valid_name})

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
        for variable, words in ((disabled.DISABLE, self.left_out.disabled), (disabled.ALLOW, self.left_out.allowed)):
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
    return kept_catalogue(files, disabled.from_environment())


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
    for cls in plain_files.classes(file):
        name = getattr(cls, "name", None) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        yield Found(cls.kind, name, f"{cls.__module__}:{cls.__qualname__}", f"file {file}", "", loaded=cls)
