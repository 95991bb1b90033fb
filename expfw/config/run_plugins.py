"""Plugins that a configuration selects, instantiated with their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expfw.api.contracts import Backend, Dataset, Plugin
from expfw.api.run_config import RunConfig
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS


@dataclass(frozen=True)
class RunPlugins:
    """All plugins of one run, created once, in the order in which their hooks are called."""

    entries: Sequence[PluginEntry]
    instances: Sequence[Plugin]

    @property
    def backend(self) -> Backend:
        """The backend plugin."""
        return next(plugin for plugin in self.instances if isinstance(plugin, Backend))

    @property
    def dataset(self) -> Dataset:
        """The dataset plugin."""
        return next(plugin for plugin in self.instances if isinstance(plugin, Dataset))

    def hash_code(self) -> dict[str, str]:
        """Returns the digests of the code of all plugins that can change the result: all except trackers."""
        digests: dict[str, str] = {}
        for entry in self.entries:
            for name, digest in entry.code.items() if entry.kind != "tracker" else ():
                if digest not in digests.setdefault(name, digest):  # two plugin files have the same name
                    digests[name] += digest
        return dict(sorted(digests.items()))

    def drop_kind(self, kind: str) -> RunPlugins:
        """Returns these plugins without those of one kind."""
        return RunPlugins(
            [entry for entry in self.entries if entry.kind != kind],
            [plugin for plugin in self.instances if plugin.kind != kind],
        )


def make_run_plugins(config: RunConfig, catalogue: Catalogue) -> RunPlugins:
    """Creates all plugins of a run; raises the same errors as `make_plugins`."""
    entries = [entry for _, _, entry in list_selected_plugins(config, catalogue)]
    return RunPlugins(entries, make_plugins(config, catalogue))


def make_plugins(config: RunConfig, catalogue: Catalogue, kinds: Sequence[str] = tuple(KINDS)) -> list[Plugin]:
    """Creates the plugins of a run, by default those of all kinds; raises the errors of `PluginEntry.instantiate`."""
    selected = list_selected_plugins(config, catalogue, kinds)
    return [entry.instantiate(entry.make_config(node, dotted_key)) for dotted_key, node, entry in selected]


def list_selected_plugins(
    config: RunConfig, catalogue: Catalogue, kinds: Sequence[str] = tuple(KINDS)
) -> Iterator[tuple[str, Mapping[str, Any], PluginEntry]]:
    """Yields dotted key, node and entry of each selected plugin, in the order in which hooks are called."""
    for kind in kinds:
        node = getattr(config, kind)
        nodes = {f"{kind}.{name}": inner for name, inner in node.items()} if kind in MULTIPLE_KINDS else {kind: node}
        for dotted_key, inner in nodes.items():
            yield dotted_key, inner, catalogue.get(kind, str(inner.get("plugin")))
