"""Stages of a run and their durations."""

from __future__ import annotations

import time
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
        self._seconds_by_stage: dict[str, float] = {}

    @contextmanager
    def measure_stage(self, name: str) -> Iterator[None]:
        """Enters a stage for the duration of the context."""
        outer_stage, outer_start = self.current_stage, self.started_at
        self._set_current_stage(name, self._add_elapsed_time())
        try:
            yield
        finally:
            self._add_elapsed_time()
            self._set_current_stage(outer_stage, outer_start)

    def get_seconds(self, name: str) -> float:
        """Returns the seconds spent in a stage so far."""
        return self._seconds_by_stage.get(name, 0.0) + (
            time.monotonic() - self._counted_until if name == self.current_stage else 0.0
        )

    def get_seconds_by_stage(self) -> dict[str, float]:
        """Returns the seconds spent in each stage, in the order in which the stages were first entered."""
        self._add_elapsed_time()
        return dict(self._seconds_by_stage)

    def _add_elapsed_time(self) -> float:
        now = time.monotonic()
        self._seconds_by_stage[self.current_stage] = (
            self._seconds_by_stage.get(self.current_stage, 0.0) + now - self._counted_until
        )
        self._counted_until = now
        return now

    def _set_current_stage(self, name: str, started_at: float) -> None:
        self.current_stage, self.started_at = name, started_at
