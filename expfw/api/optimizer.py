"""The options of optimizers and learning-rate schedules, which models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from expfw.api.options import option


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes with the optimizer step t, beginning at `learning_rate`.

    exponential: times `rate` every `steps`, rate^(t / steps). inverse_time: divided by 1 + rate * t / steps.
    cosine: along half a cosine to `rate` times the learning rate, which it reaches after `steps` and keeps; before
    that it rises from 0 in `warmup` steps.
    """

    name: Literal["constant", "exponential", "inverse_time", "cosine"] = option(
        "constant",
        help="constant; exponential: times rate^(t / steps) at step t; inverse_time: divided by 1 + rate * t / steps; "
        "cosine: down half a cosine to rate times itself at t = steps, then level",
    )
    steps: int = option(1000, help="optimizer steps in the formula of `name`; for cosine, until its end")
    rate: float = option(
        0.0, help="exponential: factor every `steps`; inverse_time: growth of the divisor; cosine: share at the end"
    )
    warmup: int = option(0, help="steps of rising from 0, for cosine")

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup < 0:
            raise ValueError(f"steps is {self.steps} and warmup {self.warmup}; expected at least 1 and 0")
        if self.rate < 0 or (self.rate == 0 and self.name in ("exponential", "inverse_time")):
            raise ValueError(f"rate is {self.rate}; expected more than 0 for name={self.name}")
        if self.warmup and self.name != "cosine":
            raise ValueError(f"warmup is {self.warmup} with name={self.name}; expected name=cosine, or no warmup")

    def keras(self, learning_rate: float) -> Any:
        """This schedule in the form that a Keras optimizer reads."""
        if self.name == "constant":
            return learning_rate
        class_name = {"exponential": "ExponentialDecay", "inverse_time": "InverseTimeDecay", "cosine": "CosineDecay"}
        config: dict[str, Any] = {"initial_learning_rate": learning_rate, "decay_steps": self.steps}
        if self.name != "cosine":
            config["decay_rate"] = self.rate
        elif self.warmup:
            config |= {"alpha": self.rate, "initial_learning_rate": 0.0, "warmup_target": learning_rate}
            config["warmup_steps"] = self.warmup
            config["decay_steps"] = max(1, self.steps - self.warmup)
        else:
            config["alpha"] = self.rate
        return {
            "module": "keras.optimizers.schedules",
            "class_name": class_name[self.name],
            "config": config,
            "registered_name": None,
        }


@dataclass(frozen=True)
class Optimizer:
    """An optimizer as plain data, so that it can be swept over and no framework is needed to describe it.

    Pass `optimizer.keras()` to `keras.Model.compile` or `keras.optimizers.get`.
    """

    name: str = option(
        "sgd", help="a Keras optimizer: sgd, adam, adamw, rmsprop, ...", usual=("sgd", "adam", "adamw", "rmsprop")
    )
    learning_rate: float = option(0.001, help="step size")
    momentum: float = option(0.0, help="momentum, for sgd and rmsprop; others have none")
    weight_decay: float | None = option(None, help="decoupled weight decay")
    schedule: Schedule = option(Schedule(), help="how the learning rate changes with the steps")
    options: dict[str, Any] = option(
        {}, help="further arguments of that Keras optimizer, as in +model.optimizer.options.beta_1=0.8"
    )

    def __post_init__(self) -> None:
        for name in ("learning_rate", "momentum", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; expected 0 or more")
            if name in self.options and (name != "momentum" or self._has_momentum):
                raise ValueError(f"options has {name}; expected it as {name}, beside options")

    @property
    def _has_momentum(self) -> bool:
        return self.name.lower() in ("sgd", "rmsprop")

    def keras(self) -> dict[str, Any]:
        """This optimizer in the form that `keras.optimizers.get` reads: `{"class_name": ..., "config": ...}`."""
        config: dict[str, Any] = {"learning_rate": self.schedule.keras(self.learning_rate), **self.options}
        if self.momentum and self._has_momentum:
            config["momentum"] = self.momentum
        if self.weight_decay is not None:
            config["weight_decay"] = self.weight_decay
        return {"class_name": self.name, "config": config}
