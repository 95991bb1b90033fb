"""What a user asked to be deleted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from expfw.api.run import FAILED, FINISHED, KILLED, PRUNED
from expfw.errors import ConfigError, did_you_mean
from expfw.tracking.run_index import INTERRUPTED, RUNNING

_UNIT_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
STATUSES = (FINISHED, FAILED, KILLED, PRUNED, INTERRUPTED)
"""Those that may be asked for."""


@dataclass(frozen=True)
class Rules:
    """All that are given must hold of a run for it to be deleted.

    Attributes:
        ids: of runs and sweeps, may be shortened; a sweep's stands for all its trials.
        keep_best: how many of each sweep, and of comparable runs on their own, stay.
        older_than: as it was given, `30d`.
        statuses: in capital letters.
        checkpoints_only: whether only the checkpoints of runs that came to their end go.
    """

    ids: Sequence[str] = ()
    keep_best: int | None = None
    older_than: str | None = None
    statuses: Sequence[str] = ()
    checkpoints_only: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing says what is to be deleted."""
        given = (self.ids, self.keep_best, self.older_than, self.statuses, self.checkpoints_only)
        return not any(given)

    @property
    def minimum_age_seconds(self) -> float | None:
        """How old a run must be.

        Raises:
            ConfigError: the age is none.
        """
        if self.older_than is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", self.older_than)
        if match is None:
            raise ConfigError(
                f"--older-than {self.older_than} is no age; expected a number with h, d or w, such as 30d or 12h"
            )
        return float(match[1]) * _UNIT_SECONDS[match[2]]

    def to_arguments(self) -> list[str]:
        """As they are typed."""
        options = {"--keep-best": self.keep_best, "--older-than": self.older_than}
        arguments = [*self.ids, *(word for name, value in options.items() if value for word in (name, str(value)))]
        arguments += ["--status", ",".join(self.statuses).lower()] if self.statuses else []
        return [*arguments, *(["--checkpoints-only"] if self.checkpoints_only else [])]


def parse_statuses(text: str | None) -> list[str]:
    """The statuses in `failed,killed`.

    Raises:
        ConfigError: one of them is none, or is that of runs which are never deleted.
    """
    names = [] if text is None else [name.strip().upper() for name in text.split(",")]
    for name in names:
        if name == RUNNING:
            raise ConfigError("what is RUNNING is never deleted; end it first")
        if name not in STATUSES:
            known_statuses = ", ".join(STATUSES).lower()
            raise ConfigError(f"no status {name.lower()!r}.{did_you_mean(name, STATUSES)} There are: {known_statuses}")
    return names
