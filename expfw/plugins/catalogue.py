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

from expfw.errors import PluginError, did_you_mean, to_one_line
from expfw.plugins import disabling, plain_files, variants
from expfw.plugins.disabling import PluginFilter, normalize_name
from expfw.plugins.entry import PluginEntry
from expfw.plugins.kinds import KINDS

_METADATA_ERRORS = (OSError, ValueError, TypeError, AttributeError, KeyError)
"""What reading metadata raises that somebody has damaged."""

log = logging.getLogger("expfw")


@dataclass(frozen=True)
class Catalogue:
    """All plugins of this environment, plus those of the given plain files."""

    files: tuple[str, ...] = ()
    plugin_filter: PluginFilter = dataclasses.field(default_factory=PluginFilter)

    @property
    def plugin_arguments(self) -> list[str]:
        """The values of `-p` with which a command finds the same plugins."""
        return [*self.files, *disabling.get_disable_options()]

    @cached_property
    def entries(self) -> dict[str, list[PluginEntry]]:
        """What there is of each kind, sorted by name. Nothing installed is imported for it."""
        by_kind: dict[str, list[PluginEntry]] = {kind: [] for kind in KINDS}
        for entry in [*_find_installed_entries(), *(p for file in self.files for p in _find_file_entries(file))]:
            by_kind[entry.kind].append(entry)
        return {kind: sorted(entries, key=lambda p: (p.name, p.distribution)) for kind, entries in by_kind.items()}

    def list_names(self, kind: str) -> list[str]:
        """The option names of a kind that may be chosen."""
        usable = (plugin for plugin in self.entries[kind] if self.get_exclusion_reason(plugin) is None)
        return sorted({plugin.name for plugin in usable if plugin.has_valid_name})

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one of that name, left out or not; `-` and `_` are the same."""
        return bool(self.find_entries(kind, name))

    def is_disabled(self, kind: str, name: str) -> bool:
        """Whether all of that name are switched off."""
        entries = self.find_entries(kind, name)
        return bool(entries) and all(self.plugin_filter.is_disabled(p.kind, p.name, p.distribution) for p in entries)

    def get_exclusion_reason(self, entry: PluginEntry) -> str | None:
        """Why it is left out; None where it may be used."""
        return self.plugin_filter.get_exclusion_reason(entry.kind, entry.name, entry.distribution)

    def get(self, kind: str, name: str) -> PluginEntry:
        """The plugin of that name.

        Raises:
            PluginError: there is none, or there are two, or it is left out.
        """
        entries = self.find_entries(kind, name)
        usable = [entry for entry in entries if self.get_exclusion_reason(entry) is None]
        if not entries:
            names = sorted({*self.list_names(kind), *variants.find_variants(kind)})
            raise PluginError(f"no {kind} plugin {name!r}.{did_you_mean(name, names)} There are: {', '.join(names)}")
        if not usable:
            raise PluginError(f"{entries[0].label} {self.get_exclusion_reason(entries[0])}")
        if len(usable) > 1:
            raise PluginError(_describe_clash(usable))
        return usable[0]

    def describe_clash(self, entry: PluginEntry) -> str | None:
        """What to say where others have its name; None where none has."""
        usable = [
            other for other in self.find_entries(entry.kind, entry.name) if self.get_exclusion_reason(other) is None
        ]
        return _describe_clash(usable) if len(usable) > 1 else None

    def find_problem(self, entry: PluginEntry) -> str | None:
        """Why it cannot be used, as far as that can be told without importing it, in one line; None where it may be."""
        if reason := self.get_exclusion_reason(entry):
            return f"{entry.label} {reason}"
        return entry.incompatibility or self.describe_clash(entry)

    def find_unknown_entry_points(self) -> Iterator[tuple[str, str, str]]:
        """Entry points that look like ours, and are of no kind: distribution, what is wrong, what to do."""
        known_groups = [f"expfw.{kind}" for kind in KINDS]
        for distribution in importlib.metadata.distributions():
            with contextlib.suppress(*_METADATA_ERRORS):  # told of when the plugins were looked for
                groups = {point.group for point in distribution.entry_points if point.group.startswith("expfw.")}
                for group in sorted(groups - set(known_groups)):
                    owner = distribution.name or _get_location(distribution)
                    problem = f"{owner} has entry points {group!r}, which is no kind of plugin"
                    yield (
                        owner,
                        problem,
                        did_you_mean(group, known_groups).strip() or f"The kinds are: {', '.join(known_groups)}",
                    )

    def check_plugin_names(self, names: Sequence[str]) -> None:
        """Refuses words that name no plugin and no distribution with plugins.

        Raises:
            PluginError: one does not.
        """
        for name, suggestion in self.find_unknown_names(names):
            raise PluginError(
                f"no plugin or distribution {name!r} to go without.{suggestion} `expfw plugins list` shows all "
                "there are"
            )

    def find_unknown_names(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Those that name no plugin and no distribution with plugins, with what may have been meant."""
        plugin_ids = [(p.kind, p.name, p.distribution) for plugins in self.entries.values() for p in plugins]
        known_names = sorted({word for _, name, distribution in plugin_ids for word in (name, distribution)})
        for word in names:
            if not any(PluginFilter((word,)).is_disabled(*plugin) for plugin in plugin_ids):
                yield word, did_you_mean(word, known_names)

    def warn_of_unknown_names(self) -> None:
        """Warns of what the environment switches off or allows, and there is none of."""
        for variable, names in (
            (disabling.DISABLE_VARIABLE, self.plugin_filter.disabled),
            (disabling.ALLOW_VARIABLE, self.plugin_filter.allowed),
        ):
            if unknown := list(self.find_unknown_names(names)):
                listing = ", ".join(
                    f"{word!r}{suggestion and f' ({suggestion.strip()})'}" for word, suggestion in unknown
                )
                log.warning("%s names what is no plugin and no distribution with plugins: %s", variable, listing)

    def find_entries(self, kind: str, name: str) -> list[PluginEntry]:
        """All of that name, however many, left out or not."""
        return [entry for entry in self.entries[kind] if normalize_name(entry.name) == normalize_name(name)]


def _describe_clash(entries: Sequence[PluginEntry]) -> str:
    """What to say of several plugins of one kind and name."""
    problem = (
        f"{entries[0].kind} plugin {entries[0].name!r} is declared by {' and '.join(p.distribution for p in entries)}"
    )
    if files := [p.distribution.removeprefix("file ") for p in entries if not p.version]:
        if len(set(files)) < len(files):
            return f"{entries[0].kind} plugin {entries[0].name!r} is twice in {files[-1]}; rename one of the classes"
        return f"{problem}; rename the class, or leave out -p {files[-1]}"
    distributions = [p.distribution for p in entries if p.distribution != "expfw"] or ["expfw"]
    return (
        f"{problem}; uninstall {distributions[-1]}, switch it off with -p no:{distributions[-1]}, or rename a plugin "
        "of yours"
    )


def get_catalogue(files: tuple[str, ...] = ()) -> Catalogue:
    """The catalogue, made once per process, set of plugin files and what is left out."""
    return get_cached_catalogue(files, disabling.read_plugin_filter())


@cache
def get_cached_catalogue(files: tuple[str, ...], plugin_filter: PluginFilter) -> Catalogue:
    """The cache of `get_catalogue`."""
    return Catalogue(files, plugin_filter)


def _find_installed_entries() -> Iterable[PluginEntry]:
    seen_names: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            yield from _find_distribution_entries(distribution, seen_names)
        except _METADATA_ERRORS as error:
            reason = to_one_line(f"{type(error).__name__}: {error}")
            log.warning("the metadata of %s cannot be read (%s); install it again", _get_location(distribution), reason)


def _find_distribution_entries(
    distribution: importlib.metadata.Distribution, seen_names: set[str]
) -> list[PluginEntry]:
    entry_points = [p for p in distribution.entry_points if p.group.removeprefix("expfw.") in KINDS]
    if not entry_points:
        return []
    if not (distribution.name and distribution.version):  # None where METADATA is absent or does not tell
        raise ValueError("METADATA with Name and Version expected")
    if distribution.name in seen_names:  # the same distribution twice on sys.path: the first one counts
        return []
    seen_names.add(distribution.name)
    expfw_requirements = [
        r for r in distribution.requires or () if re.match(r"expfw\b(?![-_.])", r) and "extra ==" not in r
    ]
    requires = expfw_requirements[0] if expfw_requirements else None
    return [
        PluginEntry(point.group[6:], point.name, point.value, distribution.name, distribution.version, requires)
        for point in entry_points
    ]


def _get_location(distribution: importlib.metadata.Distribution) -> str:
    """How to name a distribution that does not tell its own name."""
    return str(getattr(distribution, "_path", None) or distribution.locate_file(""))


def _find_file_entries(file: str) -> Iterable[PluginEntry]:
    for cls in plain_files.load_classes(file):
        name = getattr(cls, "name", None) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        yield PluginEntry(cls.kind, name, f"{cls.__module__}:{cls.__qualname__}", f"file {file}", "", loaded=cls)
