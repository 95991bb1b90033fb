"""The flags of `expfw sweep` that look ahead, which Hydra's parser does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expfw.errors import ConfigError

NAMES = {"--plan": "plan", "--build": "build", "--all": "everything", "--json": "as_json"}


@dataclass(frozen=True)
class PreviewFlags:
    """Which of them were given.

    Attributes:
        plan: list the trials, start none; build: build one of each distinct model, too.
        everything: print every trial, however many there are.
    """

    plan: bool = False
    build: bool = False
    everything: bool = False
    as_json: bool = False

    def check(self, sweeping: bool) -> None:
        """Raises ConfigError where they do not go together."""
        given = [name for name, field in NAMES.items() if getattr(self, field) and field != "as_json"]
        if given and not sweeping:
            raise ConfigError(
                f"{given[0]} is a flag of `expfw sweep`, not of `expfw run`; `expfw show` tells what a run would train"
            )
        if given and not self.plan:
            raise ConfigError(f"{given[0]} goes with --plan, as in: expfw sweep --plan {given[0]} model.units=32,64")


def taken(arguments: Sequence[str]) -> tuple[PreviewFlags, list[str]]:
    """These flags, and all other arguments."""
    flags = PreviewFlags(**{field: name in arguments for name, field in NAMES.items()})
    return flags, [word for word in arguments if word not in NAMES]
