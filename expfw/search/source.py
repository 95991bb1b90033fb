"""Where the configurations of a sweep come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Source(Protocol):
    """Proposes one configuration after the other; a grid knows all of them, a search learns from those it hears of.

    A configuration has a number, from 0. A sweep that goes on asks for those it had once more: the same number must
    give the same overrides, whatever became known since.

    Attributes:
        total: how many configurations there will be.
        prunes: whether `observe` may ever say yes.
        repeats_itself: whether it may propose what it has proposed, because it did not know better.
    """

    total: int
    prunes: bool
    repeats_itself: bool

    def propose(self, number: int) -> Sequence[str]:
        """All overrides of a configuration, as Hydra composes a job from them; asked in the order of the numbers."""
        ...

    def judge(self, number: int, objective: float | None, status: str) -> None:
        """What became of a configuration; once more for a sweep that goes on.

        Args:
            objective: None where there is none; status: FINISHED, FAILED or PRUNED.
        """
        ...

    def observe(self, number: int, evaluation: int, value: float) -> bool:
        """Tells of the objective's value while a configuration is tried; returns whether to give it up.

        Args:
            evaluation: counts from 1; the same one may come again after an interruption.
        """
        ...
