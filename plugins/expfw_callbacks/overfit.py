"""Check that a model can memorise a few samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import expfw


class Overfit(expfw.Callback):
    """Checks that the loss falls to a fraction of the first loss.

    Stops the training when it does; fails the run if it never does. Used by `debug=overfit`, with a single batch as
    training data. A model that cannot learn one batch has a defect.
    """

    @dataclass
    class Config:
        fraction: float = expfw.option(
            0.1, help="the loss must reach this fraction of the loss of the first epoch", more_than=0, less_than=1
        )

    first_loss: float | None = None
    lowest_loss = math.inf

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        loss = run.metrics["train/epoch_loss"]
        if self.first_loss is None:
            self.first_loss = loss
        self.lowest_loss = min(self.lowest_loss, loss)
        if self._has_learned:
            run.request_stop(f"the loss has fallen from {self.first_loss:.4g} to {loss:.4g}; the samples are learned")

    @property
    def _has_learned(self) -> bool:
        first_loss = self.first_loss or 0.0
        return first_loss > 0 and self.lowest_loss <= self.config.fraction * first_loss

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self, run: expfw.Run) -> Iterator[None]:
        result = yield
        if self._has_learned or run.pruned:
            return result
        steps = "1 step" if run.step == 1 else f"{run.step} steps"
        if self.first_loss is None:
            raise expfw.TrainingError(
                f"no epoch was completed in {steps}; expected 1 or more; increase train.epochs or train.steps"
            )
        if self.first_loss <= 0:
            raise expfw.TrainingError(
                f"the first loss is {self.first_loss:.4g}; expected more than 0, to fall to a fraction of it"
            )
        raise expfw.TrainingError(
            f"the loss fell from {self.first_loss:.4g} to {self.lowest_loss:.4g} in {steps}; expected "
            f"{self.config.fraction * self.first_loss:.4g} or less (callback.{self.name}.fraction="
            f"{self.config.fraction:g}). Check the loss, the targets and the learning rate; too few parameters, "
            "dropout and regularisation also keep it high; for more steps, add "
            f"train.epochs={run.config.train.epochs * 4}"
        )

    def state(self) -> Mapping[str, Any]:
        return {"first": self.first_loss, "lowest": self.lowest_loss}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.first_loss, self.lowest_loss = state["first"], state["lowest"]
