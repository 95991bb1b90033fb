"""Options of optimizers and learning-rate schedules, for models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from expfw.api.options import check_bounds, option


@dataclass(frozen=True)
class Schedule:
    """Learning rate as a function of the optimizer step, starting at `learning_rate`; `name` selects the formula."""

    name: Literal["constant", "exponential", "inverse_time", "cosine"] = option(
        "constant",
        help="constant; exponential: times rate^(t / steps) at step t; inverse_time: divided by 1 + rate * t / steps; "
        "cosine: half a cosine down to rate times the learning rate at t = steps, then constant",
    )
    steps: int = option(1000, help="steps in the formula of `name`; for cosine, the step at which it ends", at_least=1)
    rate: float = option(
        0.0,
        help="exponential: factor per `steps`; inverse_time: growth of the divisor; cosine: factor at the end",
        at_least=0,
    )
    warmup: int = option(0, help="optimizer steps with a rising learning rate, from 0; only for cosine", at_least=0)

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self))  # also for an instance that a plugin creates
        if self.rate == 0 and self.name in ("exponential", "inverse_time"):
            raise ValueError(f"rate is {self.rate}; expected more than 0 for name={self.name}")
        if self.warmup and self.name != "cosine":
            raise ValueError(f"warmup is {self.warmup} with name={self.name}; expected name=cosine, or warmup=0")

    def keras(self, learning_rate: float) -> Any:
        """Returns the schedule as a Keras optimizer configuration."""
        if self.name == "constant":
            return learning_rate
        class_names = {"exponential": "ExponentialDecay", "inverse_time": "InverseTimeDecay", "cosine": "CosineDecay"}
        config: dict[str, Any] = {"initial_learning_rate": learning_rate, "decay_steps": self.steps}
        config["alpha" if self.name == "cosine" else "decay_rate"] = self.rate
        if self.warmup:
            config |= {"initial_learning_rate": 0.0, "warmup_target": learning_rate, "warmup_steps": self.warmup}
            config["decay_steps"] = max(1, self.steps - self.warmup)
        schedule = {"module": "keras.optimizers.schedules", "class_name": class_names[self.name], "config": config}
        return schedule | {"registered_name": None}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer as plain data, without a framework; all its options can be swept.

    Pass `optimizer.keras()` to `keras.Model.compile` or `keras.optimizers.get`.
    """

    name: str = option(
        "sgd", help="Keras optimizer: sgd, adam, adamw, rmsprop, ...", usual=("sgd", "adam", "adamw", "rmsprop")
    )
    learning_rate: float = option(0.001, help="step size", at_least=0, less_than=math.inf)
    momentum: float = option(0.0, help="momentum; only for sgd and rmsprop", at_least=0, less_than=math.inf)
    weight_decay: float | None = option(None, help="decoupled weight decay", at_least=0, less_than=math.inf)
    schedule: Schedule = option(Schedule(), help="learning-rate schedule")
    options: dict[str, Any] = option(
        {}, help="additional arguments of the Keras optimizer, as in model.optimizer.options.beta_1=0.8"
    )

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self))
        for name in ("learning_rate", "momentum", "weight_decay"):
            if name in self.options and (name != "momentum" or self._has_momentum):
                raise ValueError(f"options contains {name}; expected it as {name}, outside options")

    @property
    def _has_momentum(self) -> bool:
        return self.name.lower() in ("sgd", "rmsprop")

    def keras(self) -> dict[str, Any]:
        """Returns the optimizer in the form of `keras.optimizers.get`: `{"class_name": ..., "config": ...}`."""
        config: dict[str, Any] = {"learning_rate": self.schedule.keras(self.learning_rate), **self.options}
        if self.momentum and self._has_momentum:
            config["momentum"] = self.momentum
        if self.weight_decay is not None:
            config["weight_decay"] = self.weight_decay
        return {"class_name": self.name, "config": config}
