"""Check that a model can memorise a few samples."""

from __future__ import annotations

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

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.first_loss: float | None = None
        self.lowest_loss = float("inf")

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
        return (
            self.first_loss is not None
            and self.first_loss > 0
            and self.lowest_loss <= self.config.fraction * self.first_loss
        )

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self, run: expfw.Run) -> Iterator[None]:
        result = yield
        if not self._has_learned and not run.pruned:
            raise expfw.TrainingError(self._describe_failure(run))
        return result

    def _describe_failure(self, run: expfw.Run) -> str:
        if self.first_loss is None:
            return (
                f"no epoch was completed in {_format_steps(run)}; expected 1 or more; increase train.epochs or "
                "train.steps"
            )
        if self.first_loss <= 0:
            return f"the first loss is {self.first_loss:.4g}; expected more than 0, to fall to a fraction of it"
        target_loss = self.config.fraction * self.first_loss
        more_epochs = run.config.train.epochs * 4
        return (
            f"the loss fell from {self.first_loss:.4g} to {self.lowest_loss:.4g} in {_format_steps(run)}; expected "
            f"{target_loss:.4g} or less (callback.{self.name}.fraction={self.config.fraction:g}). Check the loss, "
            "the targets and the learning rate; too few parameters, dropout and regularisation also keep it high; "
            f"for more steps, add train.epochs={more_epochs}"
        )

    def state(self) -> Mapping[str, Any]:
        return {"first": self.first_loss, "lowest": self.lowest_loss}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.first_loss, self.lowest_loss = state["first"], state["lowest"]


def _format_steps(run: expfw.Run) -> str:
    return "1 step" if run.step == 1 else f"{run.step} steps"
