"""The root of the configuration: everything that is not a plugin's option."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from expfw.api.options import option
from expfw.errors import ConfigError

PRESETS = ("experiment", "debug")
"""Groups of the configuration that are files only: no plugin stands behind a name."""

_DEFAULT_METRIC = "val/loss"


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
        _DEFAULT_METRIC,
        help="name of the metric; val/loss is train/epoch_loss without validation data",
        usual=(_DEFAULT_METRIC, "val/accuracy", "train/epoch_loss"),
    )
    mode: Literal["min", "max"] = option("min", help="whether less or more of it is better")
    take: Literal["best", "last"] = option("best", help="which of its values counts for the run")

    def for_splits(self, splits: Collection[str]) -> Objective:
        """This objective where there are only these splits of the data: without `validation`, the training's loss.

        Only the usual one is replaced: who wants another metric does not want the loss.
        """
        return (
            self
            if "validation" in splits or self.metric != _DEFAULT_METRIC
            else replace(self, metric="train/epoch_loss")
        )

    def check(self, measured: Sequence[str]) -> None:
        """To be called by a backend before the first step, with the names of the metrics that it will log.

        Callbacks may log others (`val/top5_accuracy` beside `val/accuracy`), so that the objective need not be among
        them.

        Raises:
            ConfigError: it is not, and is mistyped: it lacks its `val/`, or a letter is wrong.
        """
        names = sorted(measured, reverse=True)
        if self.metric not in names and (suggestion := self._suggest_metric(names)):
            raise ConfigError(
                f"objective.metric={self.metric} is not measured. Did you mean {suggestion!r}? There are: "
                f"{', '.join(names)}"
            )

    def _suggest_metric(self, names: Sequence[str]) -> str | None:
        same_names = [name for name in names if name.partition("/")[2] == self.metric]
        close_matches = difflib.get_close_matches(self.metric, names, n=1, cutoff=0.9)
        return next(
            (n for n in [*same_names, *close_matches] if re.sub(r"\D", "", n) == re.sub(r"\D", "", self.metric)), None
        )

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; a value that is not a number beats nothing."""
        if value != value:
            return False
        if than is None or than != than:
            return True
        return value < than if self.mode == "min" else value > than


@dataclass(frozen=True)
class Sweep:
    """How the trials of a sweep are run, and where their configurations come from."""

    slots: int | None = option(None, help="trials at a time; by default one per processor core, 8 at most, or per GPU")
    gpus: int | None = option(
        None, help="GPUs of each trial; by default 1 for a backend that computes on GPUs, where there are any"
    )
    timeout: float | None = option(None, help="seconds that a trial may take; one that takes longer is ended, FAILED")
    memory: float | None = option(None, help="GiB of memory that a trial may take, with what trials share; likewise")
    on_failure: str = option(
        "continue", help="what a failed trial means: continue, stop (start no more), retry(n) (try it n more times)"
    )
    seeds: int = option(1, help="how often each configuration is run, each time with another seed")
    sampler: Literal["grid", "random", "tpe", "cmaes"] | None = option(
        None, help="how configurations are found; by default grid, or tpe where an interval is swept over"
    )
    trials: int | None = option(None, help="configurations that a sampler other than grid tries; by default 20")
    pruner: Literal["median", "hyperband", "patience"] | None = option(
        None, help="gives up trials that are not promising, by the objective's metric at each evaluation"
    )
    startup: int = option(5, help="configurations before a sampler learns from them, and before the pruner median acts")
    warmup: int = option(1, help="evaluations of a trial before it may be given up")
    patience: int = option(3, help="evaluations without progress after which the pruner patience gives a trial up")
    space: dict[str, Any] = option(
        {}, help="values to sweep over that depend on a choice: {model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}"
    )

    def __post_init__(self) -> None:
        for name in ("slots", "seeds", "trials", "startup", "warmup", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}; expected 0 or more")
        for name in ("timeout", "memory"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; expected more than 0")
        if self.on_failure not in ("continue", "stop") and self._match_retry() is None:
            raise ValueError(
                f"on_failure is {self.on_failure!r}; expected continue, stop or retry(n), such as retry(2)"
            )

    def _match_retry(self) -> re.Match[str] | None:
        return re.fullmatch(r"retry\((\d+)\)", self.on_failure)

    @property
    def retries(self) -> int:
        """How often a trial that failed is tried again."""
        match = self._match_retry()
        return int(match[1]) if match else 0


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


def to_plain(value: Any) -> Any:
    """A configuration, or a part of it, as JSON-like values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return getattr(value, "name", value) if hasattr(type(value), "__members__") else value


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to one level with dotted keys."""
    result: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            result.update(flatten(inner, f"{prefix}{key}."))
        else:
            result[prefix + key] = inner
    return result
