"""Whether a model can learn some samples by heart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import expfw


class Overfit(expfw.Callback):
    """Ends the training when the loss has fallen to a fraction of the first one; fails the run where it never does.

    For `debug=overfit`, where all of the data are one batch. A model that cannot learn even that one has a fault.
    """

    @dataclass
    class Config:
        fraction: float = expfw.option(0.1, help="of the loss of the first epoch, to which it must fall")

        def __post_init__(self) -> None:
            if not 0 < self.fraction < 1:
                raise ValueError(f"fraction is {self.fraction}; expected more than 0 and less than 1")

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
            run.request_stop(f"the loss has fallen from {self.first_loss:.4g} to {loss:.4g}, the samples are learned")

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
            return f"no epoch was completed in {_format_steps(run)}, so that nobody knows whether the loss falls"
        if self.first_loss <= 0:
            return (
                f"the first loss is {self.first_loss:.4g}; expected more than 0, or no fraction of it can be asked for"
            )
        target_loss = self.config.fraction * self.first_loss
        more_epochs = run.config.train.epochs * 4
        return (
            f"the loss fell from {self.first_loss:.4g} to {self.lowest_loss:.4g} in {_format_steps(run)}; expected "
            f"{target_loss:.4g} or less (callback.{self.name}.fraction={self.config.fraction:g}). Look at the loss, "
            "the targets and the learning rate; too few parameters, dropout and regularisation keep it up, too; for "
            f"more steps: train.epochs={more_epochs}"
        )

    def state(self) -> Mapping[str, Any]:
        return {"first": self.first_loss, "lowest": self.lowest_loss}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.first_loss, self.lowest_loss = state["first"], state["lowest"]


def _format_steps(run: expfw.Run) -> str:
    return "1 step" if run.step == 1 else f"{run.step} steps"
