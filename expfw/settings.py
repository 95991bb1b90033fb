"""What a user can set for every run, whatever the plugins: the root of the configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from expfw.errors import ConfigError
from expfw.options import option
from expfw.sweep_settings import Sweep

PRESETS = ("experiment", "debug")
"""Groups of the configuration that are files only: no plugin stands behind a name."""
_USUAL = "val/loss"


@dataclass(frozen=True)
class Every:
    """How often something happens; `steps`, where given, beats `epochs`."""

    epochs: int | None = option(1, help="every so many epochs")
    steps: int | None = option(None, help="every so many optimizer steps")

    def __post_init__(self) -> None:
        for name in ("epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")


@dataclass(frozen=True)
class Train:
    """How long and in which portions to train."""

    epochs: int = option(10, help="passes over the training data")
    steps: int | None = option(None, help="optimizer steps; where given, beats epochs")
    batch_size: int = option(64, help="samples per optimizer step, over all devices together")
    evaluate_every: Every = option(Every(), help="how often to evaluate on the validation data")
    log_every: int = option(50, help="optimizer steps from one logged train/loss to the next")
    limit_batches: int | None = option(None, help="use only so many batches of each split (to try things out)")
    deterministic: bool = option(False, help="make every operation deterministic, at the price of speed")
    test_on: Literal["last", "best"] = option("last", help="weights that the test data are evaluated with")
    accumulate: int = option(
        1, help="compute each batch in so many parts: less memory, the same update (but for batch normalisation)"
    )
    clip_norm: float | None = option(None, help="largest norm of the whole gradient; a longer one is shortened to it")
    clip_value: float | None = option(None, help="largest size of any element of the gradient")
    average: float | None = option(
        None, help="moving average of the weights, of which so much stays in each step (0.999); evaluated and saved"
    )
    begin_from: str | None = option(
        None, help="folder of a checkpoint to go on from: its weights, optimizer, random states, and its step"
    )
    class_weight: dict[str, float] = option(
        {}, help="weight of samples by class, for example {3: 2.5} (with +); others have 1"
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size", "log_every", "limit_batches", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; expected more than 0")
        if self.average is not None and not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; expected 0 or more and below 1")
        if any(not weight >= 0 for weight in self.class_weight.values()):
            raise ValueError(f"class_weight is {self.class_weight}; expected weights of 0 or more")


@dataclass(frozen=True)
class Objective:
    """The one number that says how good a run is."""

    metric: str = option(
        _USUAL,
        help="name of the metric; val/loss is train/epoch_loss without validation data",
        usual=(_USUAL, "val/accuracy", "train/epoch_loss"),
    )
    mode: Literal["min", "max"] = option("min", help="whether less or more of it is better")
    take: Literal["best", "last"] = option("best", help="which of its values counts for the run")

    def on(self, splits: Collection[str]) -> Objective:
        """This objective where there are only these splits of the data: without `validation`, the training's loss.

        Only the usual one is replaced: who wants another metric does not want the loss.
        """
        return self if "validation" in splits or self.metric != _USUAL else replace(self, metric="train/epoch_loss")

    def check(self, measured: Sequence[str]) -> None:
        """To be called by a backend before the first step, with the names of the metrics that it will log.

        Callbacks may log others (`val/top5_accuracy` beside `val/accuracy`), so that the objective need not be among
        them.

        Raises:
            ConfigError: it is not, and is mistyped: it lacks its `val/`, or a letter is wrong.
        """
        names = sorted(measured, reverse=True)
        if self.metric not in names and (meant := self._meant(names)):
            raise ConfigError(
                f"objective.metric={self.metric} is not measured. Did you mean {meant!r}? There are: {', '.join(names)}"
            )

    def _meant(self, names: Sequence[str]) -> str | None:
        whole = [name for name in names if name.partition("/")[2] == self.metric]
        alike = difflib.get_close_matches(self.metric, names, n=1, cutoff=0.9)
        return next((n for n in [*whole, *alike] if re.sub(r"\D", "", n) == re.sub(r"\D", "", self.metric)), None)

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; a value that is not a number beats nothing."""
        if value != value:
            return False
        if than is None or than != than:
            return True
        return value < than if self.mode == "min" else value > than


@dataclass(frozen=True)
class RunConfig:
    """One run, completely: what crosses every border as `config`. Frozen; checked before any framework is imported.

    A plugin's node is the mapping of its options plus `plugin`, its name; the group of its kind fills it in.

    Attributes:
        from_environment: dotted keys of values that interpolations took from the environment, with the text of each;
            it is this text that is written down. No option: composing finds it out.
    """

    dataset: dict[str, Any] = option({}, help="the data; choose with dataset=NAME")
    model: dict[str, Any] = option({}, help="the model; choose with model=NAME")
    backend: dict[str, Any] = option({}, help="what trains it; choose with backend=NAME")
    callback: dict[str, Any] = option({}, help="what watches; add with +callback=NAME, replace with callback=[A,B]")
    tracker: dict[str, Any] = option({}, help="where the record goes; replace with tracker=[A,B]")
    train: Train = option(Train(), help="how long and in which portions to train")
    objective: Objective = option(Objective(), help="the number that says how good a run is")
    sweep: Sweep = option(Sweep(), help="how the trials of a sweep are run, and found")
    seed: int = option(0, help="fixes initial weights, order of samples and dropout")
    name: str | None = option(
        None, help="name of the run; by default the model and the data, in a sweep the swept values"
    )
    tags: dict[str, str] = option({}, help="your own tags, for example tags.paper=figure-3 (with +)")
    runs_dir: str = option("runs", help="folder that everything is written to")
    cache_gib: float = option(4.0, help="preprocessed data up to so many GiB are kept in runs_dir/.cache; 0 keeps none")
    quiet: bool = option(False, help="print nothing but warnings and errors: no progress, no result")
    notice: str | None = option(None, help="a line to print before anything else; presets say there what they do")
    from_environment: dict[str, str] = field(default_factory=dict, metadata={"internal": True})

    def __post_init__(self) -> None:
        if not self.runs_dir:
            raise ValueError("runs_dir is empty; expected a folder")


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
