"""Catalogue of all plugins: found by metadata without an import, loaded when selected, checked before use."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from expfw.api.contracts import Plugin
from expfw.errors import PluginError, did_you_mean, list_choices, to_one_line
from expfw.plugins import variants
from expfw.plugins.disabling import ALLOW_VARIABLE, DISABLE_VARIABLE, is_listed, read_names
from expfw.plugins.entry import PluginEntry
from expfw.plugins.importing import import_file
from expfw.plugins.kinds import KINDS

_METADATA_ERRORS = (OSError, ValueError, TypeError, AttributeError, KeyError)
"""Errors that damaged metadata raises when it is read."""

log = logging.getLogger("expfw")


@dataclass(frozen=True)
class Catalogue:
    """All installed plugins, plus the plugins in the given plain files.

    Attributes:
        files: plugin files.
        disabled: names of disabled plugins; see `is_listed`.
        allowed: names of the only installed plugins that may be used; empty for all.
    """

    files: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    @property
    def disable_options(self) -> list[str]:
        """The disabled plugins as values of `-p`."""
        return [f"no:{name}" for name in dict.fromkeys(self.disabled)]

    @property
    def plugin_arguments(self) -> list[str]:
        """The `-p` values that let another command find the same plugins."""
        return [*self.files, *self.disable_options]

    @cached_property
    def _all_entries(self) -> list[PluginEntry]:
        entries = [*_find_installed_entries(), *(entry for file in self.files for entry in find_file_entries(file))]
        return sorted(entries, key=lambda entry: (entry.name, entry.distribution))

    @cached_property
    def entries(self) -> dict[str, list[PluginEntry]]:
        """All plugins by kind, sorted by name. No installed plugin is imported."""
        return {kind: [entry for entry in self._all_entries if entry.kind == kind] for kind in KINDS}

    def list_names(self, kind: str) -> list[str]:
        """Returns the names of the usable plugins of a kind."""
        return sorted({p.name for p in self.entries[kind] if not (self.get_exclusion_reason(p) or p.incompatibility)})

    def list_choices(self, kind: str) -> list[str]:
        """Returns the names of the usable plugins of a kind and of their variants."""
        return sorted({*self.list_names(kind), *variants.find_variants(kind)})

    def find_entries(self, kind: str, name: str) -> list[PluginEntry]:
        """Returns all plugins of this name, including disabled ones; `-` and `_` are the same."""
        return [entry for entry in self.entries[kind] if entry.name.replace("-", "_") == name.replace("-", "_")]

    def is_disabled(self, kind: str, name: str) -> bool:
        """Returns whether every plugin of this name is disabled."""
        entries = self.find_entries(kind, name)
        return bool(entries) and all(is_listed(entry, self.disabled) for entry in entries)

    def get_exclusion_reason(self, entry: PluginEntry) -> str | None:
        """Returns why the plugin may not be used and how to change that; None if it may be used."""
        if is_listed(entry, self.disabled):
            return f"is disabled by {DISABLE_VARIABLE} or -p no:NAME; remove it there to use the plugin"
        if self.allowed and entry.file is None and not is_listed(entry, self.allowed):
            return f"is not allowed by {ALLOW_VARIABLE}; add {entry.name} or {entry.distribution} there"
        return None

    def get(self, kind: str, name: str) -> PluginEntry:
        """Returns the plugin of this name.

        Raises:
            PluginError: if no plugin has this name, two usable plugins have it, or it is disabled or not allowed.
        """
        entries = self.find_entries(kind, name)
        if not entries:
            raise PluginError(f"unknown {kind} plugin {name!r}.{list_choices(name, self.list_choices(kind))}")
        entry = next((entry for entry in entries if self.get_exclusion_reason(entry) is None), entries[0])
        if reason := self.get_exclusion_reason(entry):
            raise PluginError(f"{entry.label} {reason}")
        if clash := self.describe_clash(entry):
            raise PluginError(clash)
        return entry

    def describe_clash(self, entry: PluginEntry) -> str | None:
        """Returns an error text if other usable plugins have the same name, or None."""
        same_name = self.find_entries(entry.kind, entry.name)
        rivals = [p for p in same_name if p != entry and self.get_exclusion_reason(p) is None]
        if not rivals:
            return None
        problem = f"{entry.label} has the same name as that of {' and '.join(p.distribution for p in rivals)}"
        if entry.file is not None and entry.file in [p.file for p in rivals]:
            return f"{entry.label} is defined twice; rename one class"
        if files := [p.file for p in (entry, *rivals) if p.file is not None]:
            return f"{problem}; rename the class, or omit -p {files[-1]}"
        rival = [p.distribution for p in (entry, *rivals) if p.distribution != "expfw"][-1]
        return f"{problem}; uninstall {rival}, disable it with -p no:{rival}, or rename your plugin"

    def find_problem(self, entry: PluginEntry) -> str | None:
        """Returns in one line why the plugin cannot be used, without importing it; None if nothing is found."""
        if reason := self.get_exclusion_reason(entry):
            return f"{entry.label} {reason}"
        return entry.incompatibility or self.describe_clash(entry)

    def find_unknown_entry_points(self) -> Iterator[tuple[str, str, str]]:
        """Yields distribution, problem and remedy for each entry point group `expfw.*` that is not a kind of plugin."""
        known_groups = [f"expfw.{kind}" for kind in KINDS]
        groups = {(entry.distribution, f"expfw.{entry.kind}") for entry in self._all_entries}
        for distribution, group in sorted(groups):
            if group not in known_groups:
                remedy = did_you_mean(group, known_groups).strip() or f"Available: {', '.join(known_groups)}"
                yield distribution, f"{distribution} has entry points in the unknown group {group!r}", remedy

    def describe_unknown_names(self, names: Sequence[str]) -> str | None:
        """Describes the names that are neither a plugin nor a distribution with plugins; None if all are known."""
        known_names = sorted({name for entry in self._all_entries for name in (entry.name, entry.distribution)})
        unknown = [name for name in names if not any(is_listed(entry, [name]) for entry in self._all_entries)]
        suggestions = "".join(did_you_mean(name, known_names) for name in unknown)
        return f"unknown plugin or distribution {', '.join(map(repr, unknown))}.{suggestions}" if unknown else None

    def warn_of_unknown_names(self) -> None:
        """Logs a warning for unknown names in the environment variables that disable or allow plugins."""
        for variable, names in {DISABLE_VARIABLE: self.disabled, ALLOW_VARIABLE: self.allowed}.items():
            if problem := self.describe_unknown_names(names):
                log.warning("%s: %s", variable, problem)


def get_catalogue(files: tuple[str, ...] = ()) -> Catalogue:
    """Returns the catalogue; cached per process, plugin files and filter."""
    return get_cached_catalogue(files, read_names(DISABLE_VARIABLE), read_names(ALLOW_VARIABLE))


get_cached_catalogue = cache(Catalogue)


def _find_installed_entries() -> Iterator[PluginEntry]:
    seen_names = set[str]()
    for distribution in importlib.metadata.distributions():
        try:
            entry_points = [point for point in distribution.entry_points if point.group.startswith("expfw.")]
            if not entry_points or distribution.name in seen_names:  # twice on sys.path: the first one is used
                continue
            if not (distribution.name and distribution.version):  # None if METADATA is missing or incomplete
                raise ValueError("expected METADATA with Name and Version")
            seen_names.add(distribution.name)
            own_requirements = [r for r in distribution.requires or () if re.match(r"expfw\b(?![-_.])", r)]
            requires = next((r for r in own_requirements if "extra ==" not in r), None)
            for point in entry_points:
                kind = point.group.removeprefix("expfw.")
                yield PluginEntry(kind, point.name, point.value, distribution.name, distribution.version, requires)
        except _METADATA_ERRORS as error:
            # `_path`: the folder of the metadata, which has no public attribute
            location = getattr(distribution, "_path", None) or distribution.locate_file("")
            reason = to_one_line(f"{type(error).__name__}: {error}")
            log.warning("cannot read the metadata of %s (%s); reinstall it", location, reason)


def find_file_entries(file: str) -> list[PluginEntry]:
    """Returns the plugins that a file defines.

    Raises:
        PluginError: if the file is missing, cannot be imported or defines no plugin.
    """
    module = import_file(file)
    classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    plugin_classes = [cls for cls in classes if issubclass(cls, Plugin)]
    if not plugin_classes:
        raise PluginError(
            f"{file} defines no plugin; expected a subclass of expfw.Model, Dataset, Backend, Callback or Tracker"
        )
    entries = []
    for cls in plugin_classes:
        name = getattr(cls, "name", None) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        entries.append(PluginEntry(cls.kind, name, f"{cls.__module__}:{cls.__qualname__}", f"file {file}", ""))
    return entries
