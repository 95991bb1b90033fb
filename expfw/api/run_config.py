"""Root of the configuration: all options that are not options of a plugin."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from expfw.api.options import check_bounds, option
from expfw.errors import ConfigError
from expfw.redaction import learn_secrets

PRESETS = ("experiment", "debug")
"""Configuration groups that contain only files, not plugins."""

_DEFAULT_METRIC = "val/loss"


@dataclass(frozen=True)
class Every:
    """An interval in epochs or steps; `steps` takes precedence if set."""

    epochs: int | None = option(1, help="interval in epochs", at_least=1)
    steps: int | None = option(None, help="interval in optimizer steps", at_least=1)

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self))  # also for an instance that a plugin creates


@dataclass(frozen=True)
class Train:
    """Options of the training loop."""

    epochs: int = option(10, help="passes over the training data", at_least=1)
    steps: int | None = option(None, help="optimizer steps; takes precedence over epochs", at_least=1)
    batch_size: int = option(64, help="samples per optimizer step, over all devices together", at_least=1)
    evaluate_every: Every = option(Every(), help="interval of evaluations on the validation data")
    log_every: int = option(
        50, help="interval of logging train/loss, and the means of shorter epochs, in optimizer steps", at_least=1
    )
    limit_batches: int | None = option(
        None, help="maximum number of batches of each split, for quick tests", at_least=1
    )
    deterministic: bool = option(False, help="make every operation deterministic; slower")
    test_on: Literal["last", "best"] | None = option(
        None,
        help="weights to test and to save: best by the objective, or last; by default best if the objective is a "
        "validation metric, otherwise last",
    )
    accumulate: int = option(
        1,
        help="number of parts of each batch: less memory, the same update (except with batch normalisation)",
        at_least=1,
    )
    clip_norm: float | None = option(
        None, help="maximum norm of the whole gradient; a larger one is scaled down", more_than=0
    )
    clip_value: float | None = option(None, help="maximum absolute value of each element of the gradient", more_than=0)
    average: float | None = option(
        None,
        help="decay of a moving average of the weights (such as 0.999); the average is evaluated and saved",
        at_least=0,
        less_than=1,
    )
    begin_from: str | None = option(
        None, help="folder of a checkpoint to begin from: weights, optimizer, random states and step"
    )
    class_weight: dict[str, float] = option(
        {}, help="weight of samples by class: train.class_weight={3: 2.5}; 1 for other classes", at_least=0
    )


@dataclass(frozen=True)
class Objective:
    """The metric that ranks runs."""

    metric: str = option(
        _DEFAULT_METRIC,
        help="name of the metric; val/loss becomes train/epoch_loss without validation data",
        usual=(_DEFAULT_METRIC, "val/accuracy", "train/epoch_loss"),
    )
    mode: Literal["min", "max"] = option("min", help="min: smaller values are better; max: larger values are better")
    take: Literal["best", "last"] | None = option(
        None, help="value of the metric that ranks the run: best or last; by default that of the saved weights"
    )

    def for_splits(self, splits: Collection[str]) -> Objective:
        """Returns the objective for the available splits: the training loss if there is no validation data.

        Only the default metric is replaced.
        """
        has_metric = "validation" in splits or self.metric != _DEFAULT_METRIC
        return self if has_metric else replace(self, metric="train/epoch_loss")

    def check(self, measured: Sequence[str]) -> None:
        """Checks the metric for typing errors. A backend calls it before the first step.

        Callbacks may log other metrics, such as `val/top5_accuracy`. So an unknown metric is valid unless it is similar
        to a measured one.

        Args:
            measured: names of the metrics that the backend will log.

        Raises:
            ConfigError: if the metric is not measured and similar to a measured one: without `val/`, or misspelled.
        """
        names = sorted(measured, reverse=True)
        if self.metric in names:
            return
        same_names = [name for name in names if name.partition("/")[2] == self.metric]
        for name in (*same_names, *difflib.get_close_matches(self.metric, names, n=1, cutoff=0.9)):
            if re.sub(r"\D", "", name) == re.sub(r"\D", "", self.metric):  # `top5_accuracy` is not `top3_accuracy`
                raise ConfigError(
                    f"unknown metric {self.metric!r} (objective.metric). Did you mean {name!r}? Available: "
                    f"{', '.join(names)}"
                )

    def is_better(self, value: float, than: float | None) -> bool:
        """Returns whether `value` is better than `than`; NaN is never better."""
        if value != value:
            return False
        if than is None or than != than:
            return True
        return value < than if self.mode == "min" else value > than


@dataclass(frozen=True)
class Sweep:
    """Options of a sweep: execution of trials, sampler and pruner."""

    slots: int | None = option(
        None, help="trials at a time; by default one per CPU core or one per GPU, 8 at most", at_least=1
    )
    gpus: int | None = option(
        None, help="GPUs of each trial; by default 1 for a backend that computes on GPUs, if available", at_least=0
    )
    timeout: float | None = option(
        None, help="maximum seconds of a trial; a longer trial is stopped as FAILED", more_than=0
    )
    memory: float | None = option(
        None,
        help="maximum GiB of memory of a trial, including shared memory; a larger trial is stopped as FAILED",
        more_than=0,
    )
    on_failure: str = option(
        "continue", help="action after a failed trial: continue, stop (start no more), retry(n) (retry it n times)"
    )
    seeds: int = option(1, help="number of runs of each configuration, each with a different seed", at_least=1)
    sampler: Literal["grid", "random", "tpe", "cmaes"] | None = option(
        None, help="method that selects configurations; by default grid, or tpe if an interval is swept"
    )
    trials: int | None = option(
        None, help="number of configurations for samplers other than grid; by default 20", at_least=1
    )
    pruner: Literal["median", "hyperband", "patience"] | None = option(
        None, help="method that prunes unpromising trials, by the objective's metric at each evaluation"
    )
    startup: int = option(
        5, help="configurations to run before the sampler uses results and the median pruner prunes", at_least=1
    )
    warmup: int = option(1, help="evaluations of a trial before it may be pruned", at_least=1)
    patience: int = option(
        3, help="evaluations without improvement before the patience pruner prunes a trial", at_least=1
    )
    space: dict[str, Any] = option(
        {}, help="swept values that depend on a choice: {model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}"
    )

    def __post_init__(self) -> None:
        if re.fullmatch(r"continue|stop|retry\(\d+\)", self.on_failure) is None:
            raise ValueError(
                f"on_failure is {self.on_failure!r}; expected continue, stop or retry(n), such as retry(2)"
            )

    @property
    def retries(self) -> int:
        """Number of retries of a failed trial."""
        return int(re.sub(r"\D", "", self.on_failure) or 0)


@dataclass(frozen=True)
class RunConfig:
    """The configuration of one run, frozen and validated before any framework is imported.

    The section of a plugin contains its options and its name, under the key `plugin`.

    Attributes:
        from_environment: text of each interpolation that reads environment variables, by dotted key; recorded instead
            of the value. Set when the configuration is composed; not an option.
    """

    dataset: dict[str, Any] = option({}, help="the data; select with dataset=NAME")
    model: dict[str, Any] = option({}, help="the model; select with model=NAME")
    backend: dict[str, Any] = option({}, help="the backend; select with backend=NAME")
    callback: dict[str, Any] = option({}, help="the callbacks; add with +callback=NAME, replace with callback=[A,B]")
    tracker: dict[str, Any] = option({}, help="the trackers; replace with tracker=[A,B]")
    train: Train = option(Train(), help="options of the training loop")
    objective: Objective = option(Objective(), help="the metric that ranks runs")
    sweep: Sweep = option(Sweep(), help="options of a sweep")
    seed: int = option(0, help="seed of initial weights, order of samples and dropout")
    name: str | None = option(
        None, help="name of the run; by default the model and the data, in a sweep the swept values"
    )
    tags: dict[str, str] = option({}, help="your own tags, for example tags.paper=figure-3")
    runs_dir: str = option("runs", help="folder that contains the runs")
    cache_gib: float = option(4.0, help="maximum GiB of preprocessed data to cache in runs_dir/.cache; 0: no cache")
    quiet: bool = option(False, help="print only warnings and errors, no progress and no result")
    notice: str | None = option(None, help="line to print first; presets use it to describe themselves")
    from_environment: dict[str, str] = field(default_factory=dict, metadata={"internal": True})

    def __post_init__(self) -> None:
        if not self.runs_dir:
            raise ValueError("runs_dir is empty; expected a folder")

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restores the configuration of another process; this process then knows its secrets, too."""
        vars(self).update(state)
        learn_secrets(state)

    def choose_objective(self, splits: Collection[str]) -> tuple[Objective, str]:
        """Returns the objective and the value of `train.test_on` for the available splits.

        If one of `train.test_on` and `objective.take` is not set, it follows the other: the run is ranked by the
        weights that it saves.
        """
        objective = self.objective.for_splits(splits)
        is_best = objective.metric.startswith("val/") and objective.take != "last"
        test_on = self.train.test_on or ("best" if is_best else "last")
        return replace(objective, take=objective.take or test_on), test_on


def to_plain(value: Any) -> Any:
    """Converts a configuration, or a part of it, to JSON-like values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return value


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested mappings to one level with dotted keys."""
    result: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            result.update(flatten(inner, f"{prefix}{key}."))
        else:
            result[prefix + key] = inner
    return result
