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
        doing: the stage that goes on; since: when it began, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.doing = OTHER
        self.since = self._counted = time.monotonic()
        self._spent: dict[str, float] = {}

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """What happens within is this stage."""
        outer, began = self.doing, self.since
        self._enter(name, self._count())
        try:
            yield
        finally:
            self._count()
            self._enter(outer, began)

    def seconds(self, name: str) -> float:
        """Time spent in a stage until now."""
        return self._spent.get(name, 0.0) + (time.monotonic() - self._counted if name == self.doing else 0.0)

    def spent(self) -> dict[str, float]:
        """Seconds by stage, in the order in which they were first entered."""
        self._count()
        return dict(self._spent)

    def _count(self) -> float:
        now = time.monotonic()
        self._spent[self.doing] = self._spent.get(self.doing, 0.0) + now - self._counted
        self._counted = now
        return now

    def _enter(self, name: str, since: float) -> None:
        self.doing, self.since = name, since
