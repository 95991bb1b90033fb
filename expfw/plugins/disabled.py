"""Which plugins are left out: those that somebody switched off, and those that a list of allowed ones does not have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

DISABLE, ALLOW = "EXPFW_DISABLE_PLUGINS", "EXPFW_ALLOW_PLUGINS"
"""Environment variables, so that every process of a command knows; what they hold is separated by commas."""


@dataclass(frozen=True)
class LeftOut:
    """What the environment says of plugins, each by its name, as KIND/NAME, or all of a distribution by that one's.

    Attributes:
        disabled: those that are switched off.
        allowed: where it is not empty, of those that are installed only these may be used.
    """

    disabled: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def off(self, kind: str, name: str, distribution: str) -> bool:
        """Whether the plugin is switched off: where a configuration has it among others, it goes without."""
        return _among(self.disabled, kind, name, distribution)

    def reason(self, kind: str, name: str, distribution: str) -> str | None:
        """Why the plugin may not be used, and what to do; None where it may."""
        if self.off(kind, name, distribution):
            return f"is switched off, by {DISABLE} or -p no:NAME; take it out there to use it"
        if self.allowed and not distribution.startswith("file ") and not _among(self.allowed, kind, name, distribution):
            return f"is not among those that {ALLOW} allows; add {name} or {distribution} there"
        return None


def canonical(name: str) -> str:
    """A name as it is compared: `-` and `_` are the same."""
    return name.replace("-", "_")


def names(kind: str, name: str, distribution: str) -> set[str]:
    """All that a plugin may be called in these lists, as it is compared."""
    return {canonical(name), f"{kind}/{canonical(name)}", _canonical_distribution(distribution)}


def _canonical_distribution(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _among(listed: Sequence[str], kind: str, name: str, distribution: str) -> bool:
    wanted = names(kind, name, distribution)
    return any(canonical(word) in wanted or _canonical_distribution(word) in wanted for word in listed)


def from_environment() -> LeftOut:
    """What the environment of this process says."""
    return LeftOut(_words(DISABLE), _words(ALLOW))


def settings() -> dict[str, str]:
    """The variables as they are set, for a process that does not inherit them."""
    return {name: os.environ[name] for name in (DISABLE, ALLOW) if name in os.environ}


@contextmanager
def set_as(values: Mapping[str, str]) -> Iterator[None]:
    """The variables as these values say; as before behind it."""
    before = settings()
    for name in (DISABLE, ALLOW):
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in (DISABLE, ALLOW):
            os.environ.pop(name, None)
        os.environ.update(before)


def switched_off() -> list[str]:
    """What is switched off, as `-p` takes it."""
    return [f"no:{word}" for word in dict.fromkeys(_words(DISABLE))]


def also_disabled(words: Sequence[str]) -> dict[str, str]:
    """`settings` with these switched off, too."""
    return settings() | {DISABLE: ",".join((*_words(DISABLE), *words))}


def _words(variable: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in os.environ.get(variable, "").split(",") if word.strip())
