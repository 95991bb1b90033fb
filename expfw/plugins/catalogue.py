"""Catalogue of all plugins: found by metadata without an import, loaded when selected, checked before use."""

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
"""Errors that damaged metadata raises when it is read."""

log = logging.getLogger("expfw")


@dataclass(frozen=True)
class Catalogue:
    """All installed plugins, plus the plugins in the given plain files.

    Attributes:
        files: plugin files.
        plugin_filter: disabled and allowed plugins.
    """

    files: tuple[str, ...] = ()
    plugin_filter: PluginFilter = dataclasses.field(default_factory=PluginFilter)

    @property
    def plugin_arguments(self) -> list[str]:
        """The `-p` values that let another command find the same plugins."""
        return [*self.files, *disabling.get_disable_options()]

    @cached_property
    def entries(self) -> dict[str, list[PluginEntry]]:
        """All plugins by kind, sorted by name. No installed plugin is imported."""
        by_kind: dict[str, list[PluginEntry]] = {kind: [] for kind in KINDS}
        for entry in [*_find_installed_entries(), *(p for file in self.files for p in _find_file_entries(file))]:
            by_kind[entry.kind].append(entry)
        return {kind: sorted(entries, key=lambda p: (p.name, p.distribution)) for kind, entries in by_kind.items()}

    def list_names(self, kind: str) -> list[str]:
        """Returns the names of the usable plugins of a kind."""
        usable = (plugin for plugin in self.entries[kind] if self.get_exclusion_reason(plugin) is None)
        return sorted({plugin.name for plugin in usable if plugin.has_valid_name})

    def has(self, kind: str, name: str) -> bool:
        """Returns whether a plugin of this name exists, even if it is disabled; `-` and `_` are the same."""
        return bool(self.find_entries(kind, name))

    def is_disabled(self, kind: str, name: str) -> bool:
        """Returns whether every plugin of this name is disabled."""
        entries = self.find_entries(kind, name)
        return bool(entries) and all(self.plugin_filter.is_disabled(p.kind, p.name, p.distribution) for p in entries)

    def get_exclusion_reason(self, entry: PluginEntry) -> str | None:
        """Returns why the plugin is disabled or not allowed; None if it may be used."""
        return self.plugin_filter.get_exclusion_reason(entry.kind, entry.name, entry.distribution)

    def get(self, kind: str, name: str) -> PluginEntry:
        """Returns the plugin of this name.

        Raises:
            PluginError: if no plugin has this name, two usable plugins have it, or it is disabled or not allowed.
        """
        entries = self.find_entries(kind, name)
        usable = [entry for entry in entries if self.get_exclusion_reason(entry) is None]
        if not entries:
            names = sorted({*self.list_names(kind), *variants.find_variants(kind)})
            raise PluginError(
                f"unknown {kind} plugin {name!r}.{did_you_mean(name, names)} Available: {', '.join(names)}"
            )
        if not usable:
            raise PluginError(f"{entries[0].label} {self.get_exclusion_reason(entries[0])}")
        if len(usable) > 1:
            raise PluginError(_describe_clash(usable))
        return usable[0]

    def describe_clash(self, entry: PluginEntry) -> str | None:
        """Returns an error text if other usable plugins have the same name, or None."""
        usable = [
            other for other in self.find_entries(entry.kind, entry.name) if self.get_exclusion_reason(other) is None
        ]
        return _describe_clash(usable) if len(usable) > 1 else None

    def find_problem(self, entry: PluginEntry) -> str | None:
        """Returns in one line why the plugin cannot be used, without importing it; None if nothing is found."""
        if reason := self.get_exclusion_reason(entry):
            return f"{entry.label} {reason}"
        return entry.incompatibility or self.describe_clash(entry)

    def find_unknown_entry_points(self) -> Iterator[tuple[str, str, str]]:
        """Yields distribution, problem and remedy for each entry point group `expfw.*` that is not a kind of plugin."""
        known_groups = [f"expfw.{kind}" for kind in KINDS]
        for distribution in importlib.metadata.distributions():
            with contextlib.suppress(*_METADATA_ERRORS):  # already logged by _find_installed_entries
                groups = {point.group for point in distribution.entry_points if point.group.startswith("expfw.")}
                for group in sorted(groups - set(known_groups)):
                    owner = distribution.name or _get_location(distribution)
                    problem = f"{owner} has entry points in the unknown group {group!r}"
                    yield (
                        owner,
                        problem,
                        did_you_mean(group, known_groups).strip() or f"Available: {', '.join(known_groups)}",
                    )

    def check_plugin_names(self, names: Sequence[str]) -> None:
        """Checks that each name is a plugin or a distribution with plugins.

        Raises:
            PluginError: if a name is unknown.
        """
        for name, suggestion in self.find_unknown_names(names):
            raise PluginError(
                f"unknown plugin or distribution {name!r} in -p no:{name}.{suggestion} `expfw plugins list` lists "
                "all plugins"
            )

    def find_unknown_names(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yields each name that is neither a plugin nor a distribution with plugins, with a suggestion."""
        plugin_ids = [(p.kind, p.name, p.distribution) for plugins in self.entries.values() for p in plugins]
        known_names = sorted({word for _, name, distribution in plugin_ids for word in (name, distribution)})
        for word in names:
            if not any(PluginFilter((word,)).is_disabled(*plugin) for plugin in plugin_ids):
                yield word, did_you_mean(word, known_names)

    def warn_of_unknown_names(self) -> None:
        """Logs a warning for unknown names in the environment variables that disable or allow plugins."""
        for variable, names in (
            (disabling.DISABLE_VARIABLE, self.plugin_filter.disabled),
            (disabling.ALLOW_VARIABLE, self.plugin_filter.allowed),
        ):
            if unknown := list(self.find_unknown_names(names)):
                listing = ", ".join(
                    f"{word!r}{suggestion and f' ({suggestion.strip()})'}" for word, suggestion in unknown
                )
                log.warning("%s contains unknown plugins or distributions: %s", variable, listing)

    def find_entries(self, kind: str, name: str) -> list[PluginEntry]:
        """Returns all plugins of this name, including disabled ones."""
        return [entry for entry in self.entries[kind] if normalize_name(entry.name) == normalize_name(name)]


def _describe_clash(entries: Sequence[PluginEntry]) -> str:
    """Returns the error text for several plugins of the same kind and name."""
    problem = (
        f"{entries[0].kind} plugin {entries[0].name!r} is declared by {' and '.join(p.distribution for p in entries)}"
    )
    if files := [p.distribution.removeprefix("file ") for p in entries if not p.version]:
        if len(set(files)) < len(files):
            return f"{entries[0].kind} plugin {entries[0].name!r} is defined twice in {files[-1]}; rename one class"
        return f"{problem}; rename the class, or omit -p {files[-1]}"
    distributions = [p.distribution for p in entries if p.distribution != "expfw"] or ["expfw"]
    return f"{problem}; uninstall {distributions[-1]}, disable it with -p no:{distributions[-1]}, or rename your plugin"


def get_catalogue(files: tuple[str, ...] = ()) -> Catalogue:
    """Returns the catalogue; cached per process, plugin files and filter."""
    return get_cached_catalogue(files, disabling.read_plugin_filter())


@cache
def get_cached_catalogue(files: tuple[str, ...], plugin_filter: PluginFilter) -> Catalogue:
    """Returns the cached catalogue; see `get_catalogue`."""
    return Catalogue(files, plugin_filter)


def _find_installed_entries() -> Iterable[PluginEntry]:
    seen_names: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            yield from _find_distribution_entries(distribution, seen_names)
        except _METADATA_ERRORS as error:
            reason = to_one_line(f"{type(error).__name__}: {error}")
            log.warning("cannot read the metadata of %s (%s); reinstall it", _get_location(distribution), reason)


def _find_distribution_entries(
    distribution: importlib.metadata.Distribution, seen_names: set[str]
) -> list[PluginEntry]:
    entry_points = [p for p in distribution.entry_points if p.group.removeprefix("expfw.") in KINDS]
    if not entry_points:
        return []
    if not (distribution.name and distribution.version):  # None if METADATA is missing or incomplete
        raise ValueError("expected METADATA with Name and Version")
    if distribution.name in seen_names:  # the same distribution twice on sys.path: the first one is used
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
    """Returns a location that identifies a distribution without a name."""
    return str(getattr(distribution, "_path", None) or distribution.locate_file(""))


def _find_file_entries(file: str) -> Iterable[PluginEntry]:
    for cls in plain_files.load_classes(file):
        name = getattr(cls, "name", None) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        yield PluginEntry(cls.kind, name, f"{cls.__module__}:{cls.__qualname__}", f"file {file}", "", loaded=cls)
