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
        self.first: float | None = None
        self.lowest = float("inf")

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        loss = run.metrics["train/epoch_loss"]
        if self.first is None:
            self.first = loss
        self.lowest = min(self.lowest, loss)
        if self._learned:
            run.request_stop(f"the loss has fallen from {self.first:.4g} to {loss:.4g}, the samples are learned")

    @property
    def _learned(self) -> bool:
        return self.first is not None and self.first > 0 and self.lowest <= self.config.fraction * self.first

    @expfw.hookimpl(wrapper=True)
    def expfw_fit(self, run: expfw.Run) -> Iterator[None]:
        result = yield
        if not self._learned and not run.pruned:
            raise expfw.TrainingError(self._failure(run))
        return result

    def _failure(self, run: expfw.Run) -> str:
        if self.first is None:
            return f"no epoch was completed in {_steps(run)}, so that nobody knows whether the loss falls"
        if self.first <= 0:
            return f"the first loss is {self.first:.4g}; expected more than 0, or no fraction of it can be asked for"
        wanted = self.config.fraction * self.first
        more = run.config.train.epochs * 4
        return (
            f"the loss fell from {self.first:.4g} to {self.lowest:.4g} in {_steps(run)}; expected {wanted:.4g} or "
            f"less (callback.{self.name}.fraction={self.config.fraction:g}). Look at the loss, the targets and "
            f"the learning rate; too few parameters, dropout and regularisation keep it up, too; for more steps: "
            f"train.epochs={more}"
        )

    def state(self) -> Mapping[str, Any]:
        return {"first": self.first, "lowest": self.lowest}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.first, self.lowest = state["first"], state["lowest"]


def _steps(run: expfw.Run) -> str:
    return "1 step" if run.step == 1 else f"{run.step} steps"
