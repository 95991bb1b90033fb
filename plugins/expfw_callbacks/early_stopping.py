"""Stopping when it no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import expfw


class EarlyStopping(expfw.Callback):
    """Ends the training when a metric has not improved for some evaluations.

    To test and keep the best weights instead of the last, add `train.test_on=best`.
    """

    @dataclass
    class Config:
        metric: str = expfw.option("val/loss", help="metric to watch, measured in each evaluation")
        mode: Literal["min", "max"] = expfw.option("min", help="whether less or more of it is better")
        patience: int = expfw.option(5, help="evaluations without improvement before it stops")
        min_delta: float = expfw.option(0.0, help="what counts as an improvement")

        def __post_init__(self) -> None:
            if self.patience < 1 or self.min_delta < 0:
                raise ValueError(
                    f"patience is {self.patience} and min_delta {self.min_delta}; expected at least 1 and 0"
                )

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.best: float | None = None
        self.waited = 0

    @expfw.hookimpl
    def expfw_evaluated(self, run: expfw.Run) -> None:
        options = self.config
        if options.metric not in run.metrics:
            known = ", ".join(sorted(run.metrics))
            raise expfw.ConfigError(f"there is no metric {options.metric!r} to watch; there are: {known}")
        value = run.metrics[options.metric]
        gain = 0.0 if self.best is None else (self.best - value if options.mode == "min" else value - self.best)
        if self.best is None or gain > options.min_delta:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= options.patience:
            run.request_stop(f"{options.metric} has not improved on {self.best:.6g} for {self.waited} evaluations")

    def state(self) -> Mapping[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]
