"""The rules of a user that select runs to delete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from expfw.api.result import FAILED, FINISHED, KILLED, PRUNED
from expfw.errors import ConfigError, did_you_mean
from expfw.tracking.run_index import INTERRUPTED, RUNNING

_UNIT_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
STATUSES = (FINISHED, FAILED, KILLED, PRUNED, INTERRUPTED)
"""Statuses that `--status` accepts."""


@dataclass(frozen=True)
class Rules:
    """Rules that select runs; a run must match all given rules.

    Attributes:
        ids: IDs of runs and sweeps, or their first characters; a sweep selects all its trials.
        keep_best: number of best runs to keep in each sweep and each group of comparable single runs.
        older_than: minimum age as typed, for example `30d`.
        statuses: selected statuses, in capital letters.
        checkpoints_only: whether to delete only the checkpoints of finished and pruned runs.
    """

    ids: Sequence[str] = ()
    keep_best: int | None = None
    older_than: str | None = None
    statuses: Sequence[str] = ()
    checkpoints_only: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether no rule is given."""
        given = (self.ids, self.keep_best, self.older_than, self.statuses, self.checkpoints_only)
        return not any(given)

    @property
    def minimum_age_seconds(self) -> float | None:
        """Minimum age of a run, in seconds; None for any age.

        Raises:
            ConfigError: if the age is invalid.
        """
        if self.older_than is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", self.older_than)
        if match is None:
            raise ConfigError(
                f"--older-than is {self.older_than}; expected a number with h, d or w, such as 30d or 12h"
            )
        return float(match[1]) * _UNIT_SECONDS[match[2]]

    def to_arguments(self) -> list[str]:
        """Returns the rules as command-line arguments."""
        options = {"--keep-best": self.keep_best, "--older-than": self.older_than}
        arguments = [*self.ids, *(word for name, value in options.items() if value for word in (name, str(value)))]
        arguments += ["--status", ",".join(self.statuses).lower()] if self.statuses else []
        return [*arguments, *(["--checkpoints-only"] if self.checkpoints_only else [])]


def parse_statuses(text: str | None) -> list[str]:
    """Parses statuses such as `failed,killed`.

    Raises:
        ConfigError: if a status is unknown, or is that of runs in progress, which are never deleted.
    """
    names = [] if text is None else [name.strip().upper() for name in text.split(",")]
    for name in names:
        if name == RUNNING:
            raise ConfigError("runs in progress are never deleted; stop them first")
        if name not in STATUSES:
            known_statuses = [status.lower() for status in STATUSES]
            suggestion = did_you_mean(name.lower(), known_statuses)
            raise ConfigError(f"unknown status {name.lower()!r}.{suggestion} Available: {', '.join(known_statuses)}")
    return names
