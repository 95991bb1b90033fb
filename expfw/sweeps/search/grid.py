"""Grid of all combinations of the swept values."""

from __future__ import annotations

from collections.abc import Sequence

from expfw.sweeps.search.space import DimensionSummary, Space


class Grid:
    """Source that knows all its configurations and creates each one on demand."""

    can_prune = False
    can_repeat = False

    def __init__(self, space: Space) -> None:
        self.space = space
        self.total = space.total

    def propose(self, number: int) -> Sequence[str]:
        return self.space.get_overrides(number)

    def report_result(self, number: int, objective: float | None, status: str) -> None:
        """Does nothing: configurations do not depend on results."""

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        return False

    def describe(self) -> Sequence[DimensionSummary]:
        """Returns readable summaries of the dimensions."""
        return self.space.describe()
