"""What a user can set for every run, whatever the plugins: the root of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def option(default: T, help: str = "") -> T:
    """A dataclass field with a help text; a list, dict or dataclass default is copied for each instance.

    The return type is a white lie that dataclass authors know from `dataclasses.field`.
    """
    if isinstance(default, (list, dict, set)):
        made = type(default)
        return field(default_factory=lambda: made(default), metadata={"help": help})
    if hasattr(default, "__dataclass_fields__"):
        return field(default_factory=lambda: default, metadata={"help": help})
    return field(default=default, metadata={"help": help})


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

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size", "log_every", "limit_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")


@dataclass(frozen=True)
class Objective:
    """The one number that says how good a run is."""

    metric: str = option("val/loss", help="name of the metric; without validation data, train/epoch_loss")
    mode: Literal["min", "max"] = option("min", help="whether less or more of it is better")
    take: Literal["best", "last"] = option("best", help="which of its values counts for the run")

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; a value that is not a number beats nothing."""
        if value != value:
            return False
        if than is None or than != than:
            return True
        return value < than if self.mode == "min" else value > than


@dataclass(frozen=True)
class Sweep:
    """How the trials of a sweep are run."""

    slots: int | None = option(None, help="trials at a time; by default one per processor core, 8 at most")
    on_failure: Literal["continue", "stop"] = option("continue", help="what a failed trial means for the rest")

    def __post_init__(self) -> None:
        if self.slots is not None and self.slots < 1:
            raise ValueError(f"slots is {self.slots}; expected 1 or more")


@dataclass(frozen=True)
class RunConfig:
    """One run, completely: what crosses every border as `config`. Frozen; checked before any framework is imported.

    A plugin's node is the mapping of its options plus `plugin`, its name; the group of its kind fills it in.
    """

    dataset: dict[str, Any] = option({}, help="the data; choose with dataset=NAME")
    model: dict[str, Any] = option({}, help="the model; choose with model=NAME")
    backend: dict[str, Any] = option({}, help="what trains it; choose with backend=NAME")
    callback: dict[str, Any] = option({}, help="what watches; add with +callback=NAME, replace with callback=[A,B]")
    tracker: dict[str, Any] = option({}, help="where the record goes; replace with tracker=[A,B]")
    train: Train = option(Train(), help="how long and in which portions to train")
    objective: Objective = option(Objective(), help="the number that says how good a run is")
    sweep: Sweep = option(Sweep(), help="how the trials of a sweep are run")
    seed: int = option(0, help="fixes initial weights, order of samples and dropout")
    name: str | None = option(
        None, help="name of the run; by default the model and the data, in a sweep the swept values"
    )
    tags: dict[str, str] = option({}, help="your own tags, for example tags.paper=figure-3 (with +)")
    runs_dir: str = option("runs", help="folder that everything is written to")
    quiet: bool = option(False, help="no progress display")

    def __post_init__(self) -> None:
        if not self.runs_dir:
            raise ValueError("runs_dir is empty; expected a folder")


@dataclass(frozen=True)
class Optimizer:
    """An optimizer as plain data, so that it can be swept over and no framework is needed to describe it.

    Pass `optimizer.keras()` to `keras.Model.compile` or `keras.optimizers.get`.
    """

    name: str = option("sgd", help="a Keras optimizer: sgd, adam, adamw, rmsprop, ...")
    learning_rate: float = option(0.001, help="step size")
    momentum: float = option(0.0, help="momentum, for sgd and rmsprop; others have none")
    weight_decay: float | None = option(None, help="decoupled weight decay")
    options: dict[str, Any] = option({}, help="any further argument of that Keras optimizer, for example {beta_1: 0.8}")

    def keras(self) -> dict[str, Any]:
        """This optimizer in the form that `keras.optimizers.get` reads: `{"class_name": ..., "config": ...}`."""
        config: dict[str, Any] = {"learning_rate": self.learning_rate, **self.options}
        if self.momentum and self.name.lower() in ("sgd", "rmsprop"):
            config["momentum"] = self.momentum
        if self.weight_decay is not None:
            config["weight_decay"] = self.weight_decay
        return {"class_name": self.name, "config": config}
