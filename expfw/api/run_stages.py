"""What a run is doing, and how long it has done what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

TRAINING = "training"
"""The stage that the throughput of a run is measured in."""
OTHER = "other work"
"""What has no name."""


class Stages:
    """One clock that is always in one stage; stages nest, and the time of an inner one is not that of the outer one.

    Attributes:
        current_stage: the stage that goes on; started_at: when it began, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.current_stage = OTHER
        self.started_at = self._counted_until = time.monotonic()
        self._seconds_by_stage: dict[str, float] = {}

    @contextmanager
    def measure_stage(self, name: str) -> Iterator[None]:
        """What happens within is this stage."""
        outer_stage, outer_start = self.current_stage, self.started_at
        self._set_current_stage(name, self._add_elapsed_time())
        try:
            yield
        finally:
            self._add_elapsed_time()
            self._set_current_stage(outer_stage, outer_start)

    def get_seconds(self, name: str) -> float:
        """Time spent in a stage until now."""
        return self._seconds_by_stage.get(name, 0.0) + (
            time.monotonic() - self._counted_until if name == self.current_stage else 0.0
        )

    def get_seconds_by_stage(self) -> dict[str, float]:
        """Seconds by stage, in the order in which they were first entered."""
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
