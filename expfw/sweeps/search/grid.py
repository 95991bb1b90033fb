"""Every combination of the values swept over, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from expfw.sweeps.search.space import DimensionSummary, Space


class Grid:
    """A source that knows all its configurations, and makes none before it is asked for."""

    can_prune = False
    can_repeat = False

    def __init__(self, space: Space) -> None:
        self.space = space
        self.total = space.total

    def propose(self, number: int) -> Sequence[str]:
        return self.space.get_overrides(number)

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        """What becomes of one changes none of the others."""

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        return False

    def describe(self) -> Sequence[DimensionSummary]:
        """The dimensions, for people."""
        return self.space.describe()
