"""A callback for expfw: `+callback=my_plugin`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import expfw


class MyPlugin(expfw.Callback):
    """Logs how far validation loss is above training loss as `gap/loss`, and may end a run where that gets large."""

    @dataclass
    class Config:
        limit: float | None = expfw.option(None, help="end the run where the gap is larger than that")
        patience: int = expfw.option(1, help="for so many epochs in a row")

        def __post_init__(self) -> None:
            if self.patience < 1:
                raise ValueError(f"patience is {self.patience}; expected 1 or more")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.epochs_above = 0

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        if "val/loss" not in run.metrics:
            return  # there are no validation data, or they were not evaluated yet
        gap = run.metrics["val/loss"] - run.metrics["train/epoch_loss"]
        run.log({"gap/loss": gap})
        limit = self.config.limit
        self.epochs_above = self.epochs_above + 1 if limit is not None and gap > limit else 0
        if self.epochs_above >= self.config.patience:
            run.request_stop(f"validation loss is {gap:.4g} above training loss, callback.{self.name}.limit is {limit}")

    def state(self) -> Mapping[str, Any]:
        return {"epochs_above": self.epochs_above}  # what a run that goes on must know

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epochs_above = state["epochs_above"]
