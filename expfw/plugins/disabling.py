"""Disabled and allowed plugins, from environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

DISABLE_VARIABLE, ALLOW_VARIABLE = "EXPFW_DISABLE_PLUGINS", "EXPFW_ALLOW_PLUGINS"
"""Environment variables, which every process of a command inherits; comma-separated names."""


@dataclass(frozen=True)
class PluginFilter:
    """Disabled and allowed plugins.

    A list item is a plugin name, KIND/NAME, or a distribution name, which stands for all of its plugins.

    Attributes:
        disabled: disabled plugins.
        allowed: if not empty, the only installed plugins that may be used.
    """

    disabled: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def is_disabled(self, kind: str, name: str, distribution: str) -> bool:
        """Returns whether the plugin is disabled; it is then removed from a list of plugins in a configuration."""
        return _is_listed(self.disabled, kind, name, distribution)

    def get_exclusion_reason(self, kind: str, name: str, distribution: str) -> str | None:
        """Returns why the plugin may not be used and how to change that; None if it may be used."""
        if self.is_disabled(kind, name, distribution):
            return f"is disabled by {DISABLE_VARIABLE} or -p no:NAME; remove it there to use the plugin"
        if (
            self.allowed
            and not distribution.startswith("file ")
            and not _is_listed(self.allowed, kind, name, distribution)
        ):
            return f"is not allowed by {ALLOW_VARIABLE}; add {name} or {distribution} there"
        return None


def normalize_name(name: str) -> str:
    """Returns the name in the form used for comparison: `-` and `_` are the same."""
    return name.replace("-", "_")


def get_aliases(kind: str, name: str, distribution: str) -> set[str]:
    """Returns all list items that match a plugin, normalized."""
    return {normalize_name(name), f"{kind}/{normalize_name(name)}", _normalize_distribution(distribution)}


def _normalize_distribution(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _is_listed(listed_names: Sequence[str], kind: str, name: str, distribution: str) -> bool:
    aliases = get_aliases(kind, name, distribution)
    return any(
        normalize_name(listed_name) in aliases or _normalize_distribution(listed_name) in aliases
        for listed_name in listed_names
    )


def read_plugin_filter() -> PluginFilter:
    """Returns the filter that the environment variables of this process define."""
    return PluginFilter(_read_names(DISABLE_VARIABLE), _read_names(ALLOW_VARIABLE))


def get_variables() -> dict[str, str]:
    """Returns the variables that are set, for a process that does not inherit them."""
    return {name: os.environ[name] for name in (DISABLE_VARIABLE, ALLOW_VARIABLE) if name in os.environ}


@contextmanager
def use_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Sets the variables to these values inside the context, and restores them afterwards."""
    previous = get_variables()
    for name in (DISABLE_VARIABLE, ALLOW_VARIABLE):
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in (DISABLE_VARIABLE, ALLOW_VARIABLE):
            os.environ.pop(name, None)
        os.environ.update(previous)


def get_disable_options() -> list[str]:
    """Returns the disabled plugins as values of `-p`."""
    return [f"no:{name}" for name in dict.fromkeys(_read_names(DISABLE_VARIABLE))]


def get_variables_disabling(names: Sequence[str]) -> dict[str, str]:
    """Returns `get_variables` with these plugins disabled in addition."""
    return get_variables() | {DISABLE_VARIABLE: ",".join((*_read_names(DISABLE_VARIABLE), *names))}


def _read_names(variable: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())
