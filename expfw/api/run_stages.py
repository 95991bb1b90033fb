"""Stages of a run and their durations."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

TRAINING = "training"
"""Stage in which the throughput of a run is measured."""
OTHER = "other work"
"""Stage of all work without a name."""


class Stages:
    """A clock that is always in exactly one stage.

    Stages nest. The time of an inner stage does not count for the outer stage.

    Attributes:
        current_stage: name of the current stage.
        started_at: start time of the current stage, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.current_stage = OTHER
        self.started_at = self._counted_until = time.monotonic()
        self._seconds_by_stage: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure_stage(self, name: str) -> Iterator[None]:
        """Enters a stage for the duration of the context."""
        outer = self.current_stage, self.started_at
        self.current_stage, self.started_at = name, self._add_elapsed_time()
        try:
            yield
        finally:
            self._add_elapsed_time()
            self.current_stage, self.started_at = outer

    def get_seconds_by_stage(self) -> dict[str, float]:
        """Returns the seconds spent in each stage so far, in the order in which the stages were first entered."""
        self._add_elapsed_time()
        return dict(self._seconds_by_stage)

    def _add_elapsed_time(self) -> float:
        now = time.monotonic()
        self._seconds_by_stage[self.current_stage] += now - self._counted_until
        self._counted_until = now
        return now
