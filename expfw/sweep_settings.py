"""What a user can set for a sweep: how its trials are run, and how their configurations are found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from expfw.options import option


@dataclass(frozen=True)
class Sweep:
    """How the trials of a sweep are run, and where their configurations come from."""

    slots: int | None = option(None, help="trials at a time; by default one per processor core, 8 at most, or per GPU")
    gpus: int | None = option(
        None, help="GPUs of each trial; by default 1 for a backend that computes on GPUs, where there are any"
    )
    timeout: float | None = option(None, help="seconds that a trial may take; one that takes longer is ended, FAILED")
    memory: float | None = option(None, help="GiB of memory that a trial may take, with what trials share; likewise")
    on_failure: str = option(
        "continue", help="what a failed trial means: continue, stop (start no more), retry(n) (try it n more times)"
    )
    seeds: int = option(1, help="how often each configuration is run, each time with another seed")
    sampler: Literal["grid", "random", "tpe", "cmaes"] | None = option(
        None, help="how configurations are found; by default grid, or tpe where an interval is swept over"
    )
    trials: int | None = option(None, help="configurations that a sampler other than grid tries; by default 20")
    pruner: Literal["median", "hyperband", "patience"] | None = option(
        None, help="gives up trials that are not promising, by the objective's metric at each evaluation"
    )
    startup: int = option(5, help="configurations before a sampler learns from them, and before the pruner median acts")
    warmup: int = option(1, help="evaluations of a trial before it may be given up")
    patience: int = option(3, help="evaluations without progress after which the pruner patience gives a trial up")
    space: dict[str, Any] = option(
        {}, help="values to sweep over that depend on a choice: {model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}"
    )

    def __post_init__(self) -> None:
        for name in ("slots", "seeds", "trials", "startup", "warmup", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}; expected 0 or more")
        for name in ("timeout", "memory"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; expected more than 0")
        if self.on_failure not in ("continue", "stop") and self._retry() is None:
            raise ValueError(
                f"on_failure is {self.on_failure!r}; expected continue, stop or retry(n), such as retry(2)"
            )

    def _retry(self) -> re.Match[str] | None:
        return re.fullmatch(r"retry\((\d+)\)", self.on_failure)

    @property
    def retries(self) -> int:
        """How often a trial that failed is tried again."""
        found = self._retry()
        return int(found[1]) if found else 0
