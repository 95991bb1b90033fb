"""Which plugins are left out: those that somebody switched off, and those that a list of allowed ones does not have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

DISABLE_VARIABLE, ALLOW_VARIABLE = "EXPFW_DISABLE_PLUGINS", "EXPFW_ALLOW_PLUGINS"
"""Environment variables, so that every process of a command knows; what they hold is separated by commas."""


@dataclass(frozen=True)
class PluginFilter:
    """What the environment says of plugins, each by its name, as KIND/NAME, or all of a distribution by that one's.

    Attributes:
        disabled: those that are switched off.
        allowed: where it is not empty, of those that are installed only these may be used.
    """

    disabled: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def is_disabled(self, kind: str, name: str, distribution: str) -> bool:
        """Whether the plugin is switched off: where a configuration has it among others, it goes without."""
        return _is_listed(self.disabled, kind, name, distribution)

    def get_exclusion_reason(self, kind: str, name: str, distribution: str) -> str | None:
        """Why the plugin may not be used, and what to do; None where it may."""
        if self.is_disabled(kind, name, distribution):
            return f"is switched off, by {DISABLE_VARIABLE} or -p no:NAME; take it out there to use it"
        if (
            self.allowed
            and not distribution.startswith("file ")
            and not _is_listed(self.allowed, kind, name, distribution)
        ):
            return f"is not among those that {ALLOW_VARIABLE} allows; add {name} or {distribution} there"
        return None


def normalize_name(name: str) -> str:
    """A name as it is compared: `-` and `_` are the same."""
    return name.replace("-", "_")


def get_aliases(kind: str, name: str, distribution: str) -> set[str]:
    """All that a plugin may be called in these lists, as it is compared."""
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
    """What the environment of this process says."""
    return PluginFilter(_read_names(DISABLE_VARIABLE), _read_names(ALLOW_VARIABLE))


def get_variables() -> dict[str, str]:
    """The variables as they are set, for a process that does not inherit them."""
    return {name: os.environ[name] for name in (DISABLE_VARIABLE, ALLOW_VARIABLE) if name in os.environ}


@contextmanager
def use_variables(values: Mapping[str, str]) -> Iterator[None]:
    """The variables as these values say; as before behind it."""
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
    """What is switched off, as `-p` takes it."""
    return [f"no:{name}" for name in dict.fromkeys(_read_names(DISABLE_VARIABLE))]


def get_variables_disabling(names: Sequence[str]) -> dict[str, str]:
    """`get_variables` with these switched off, too."""
    return get_variables() | {DISABLE_VARIABLE: ",".join((*_read_names(DISABLE_VARIABLE), *names))}


def _read_names(variable: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())
