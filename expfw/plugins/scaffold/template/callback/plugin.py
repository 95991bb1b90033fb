"""A callback for expfw: `+callback=my_plugin`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import expfw


class MyPlugin(expfw.Callback):
    """Logs validation loss minus training loss as `gap/loss`, and can stop a run with a large gap."""

    @dataclass
    class Config:
        limit: float | None = expfw.option(None, help="largest allowed gap; by default the run is never stopped")
        patience: int = expfw.option(1, help="epochs in a row above the limit before the run stops", at_least=1)

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.epochs_above = 0

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        if "val/loss" not in run.metrics:
            return  # no validation data, or not evaluated yet
        gap = run.metrics["val/loss"] - run.metrics["train/epoch_loss"]
        run.log({"gap/loss": gap})
        limit = self.config.limit
        self.epochs_above = self.epochs_above + 1 if limit is not None and gap > limit else 0
        if self.epochs_above >= self.config.patience:
            run.request_stop(f"validation loss is {gap:.4g} above training loss, callback.{self.name}.limit is {limit}")

    def state(self) -> Mapping[str, Any]:
        return {"epochs_above": self.epochs_above}  # saved in checkpoints, for a resumed run

    def restore(self, state: Mapping[str, Any]) -> None:
        self.epochs_above = state["epochs_above"]
