"""Early stopping when a metric no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import expfw


class EarlyStopping(expfw.Callback):
    """Stops the training when a metric has not improved for some evaluations.

    By default the best weights are tested and saved; `train.test_on=last` selects the last ones.
    """

    @dataclass
    class Config:
        metric: str = expfw.option("val/loss", help="metric that must improve, checked after each evaluation")
        mode: Literal["min", "max"] = expfw.option("min", help="min if a lower value is better, otherwise max")
        patience: int = expfw.option(5, help="evaluations without improvement before the training stops", at_least=1)
        min_delta: float = expfw.option(0.0, help="an improvement must be larger than this", at_least=0)

    best_value: float | None = None
    wait_count = 0

    @expfw.hookimpl
    def expfw_evaluated(self, run: expfw.Run) -> None:
        options, best_value = self.config, self.best_value
        if options.metric not in run.metrics:
            known_metrics = ", ".join(sorted(run.metrics))
            raise expfw.ConfigError(
                f"unknown metric {options.metric!r} (callback.{self.name}.metric). Available: {known_metrics}"
            )
        value, sign = run.metrics[options.metric], 1 if options.mode == "max" else -1
        if best_value is None or sign * (value - best_value) > options.min_delta:
            self.best_value, self.wait_count = value, 0
            return
        self.wait_count += 1
        if self.wait_count >= options.patience:
            run.request_stop(f"{options.metric} has not improved on {best_value:.6g} for {self.wait_count} evaluations")

    def state(self) -> Mapping[str, Any]:
        return {"best": self.best_value, "waited": self.wait_count}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best_value, self.wait_count = state["best"], state["waited"]
