"""Disabled and allowed plugins, from environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expfw.plugins.entry import PluginEntry

DISABLE_VARIABLE, ALLOW_VARIABLE = "EXPFW_DISABLE_PLUGINS", "EXPFW_ALLOW_PLUGINS"
"""Environment variables, which every process of a command inherits; comma-separated names."""


def is_listed(entry: PluginEntry, names: Sequence[str]) -> bool:
    """Returns whether a name is that of the plugin, its KIND/NAME, or its distribution, for all of its plugins."""
    aliases = {entry.name, f"{entry.kind}/{entry.name}", entry.distribution}
    return not set(map(_normalize, aliases)).isdisjoint(map(_normalize, names))


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def read_names(variable: str) -> tuple[str, ...]:
    """Returns the names in one of the variables of this process."""
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())


def get_variables() -> dict[str, str]:
    """Returns the variables that are set, for a process that does not inherit them."""
    return {name: os.environ[name] for name in (DISABLE_VARIABLE, ALLOW_VARIABLE) if name in os.environ}


def get_variables_disabling(names: Sequence[str]) -> dict[str, str]:
    """Returns `get_variables` with these plugins disabled in addition."""
    return get_variables() | {DISABLE_VARIABLE: ",".join((*read_names(DISABLE_VARIABLE), *names))}


@contextmanager
def use_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Sets the variables to these values inside the context, and restores them afterwards."""
    previous = get_variables()
    try:
        _set_variables(values)
        yield
    finally:
        _set_variables(previous)


def _set_variables(values: Mapping[str, str]) -> None:
    for name in (DISABLE_VARIABLE, ALLOW_VARIABLE):
        os.environ.pop(name, None)
    os.environ.update(values)
