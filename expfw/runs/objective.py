"""The objective of a run: its choice, and a warning if it was never logged."""

from __future__ import annotations

from collections.abc import Sequence

from expfw.api.data import Splits
from expfw.api.run import Run
from expfw.errors import ConfigError, did_you_mean


def choose_objective(run: Run, data: Splits, overrides: Sequence[str]) -> None:
    """Sets the objective of the run: the configured one, or the training loss if there is no validation data.

    Args:
        run: the run.
        data: its data.
        overrides: overrides typed by the user.

    Raises:
        ConfigError: if the configured metric cannot be measured on this data.
    """
    configured_metric = run.config.objective.metric
    run.objective = run.config.objective.for_splits(data.get_splits())
    if run.objective.metric != configured_metric:
        is_overridden = any(override.lstrip("+").startswith("objective.metric=") for override in overrides)
        report = run.warn if is_overridden else run.message
        report(f"no validation data: the objective is {run.objective.metric} instead of {configured_metric}")
    elif configured_metric.startswith("val/") and data.validation is None:
        raise ConfigError(
            f"objective.metric={configured_metric} needs validation data, but dataset "
            f"{run.config.dataset['plugin']!r} provides none; expected a training metric, for example "
            "objective.metric=train/epoch_loss"
        )


def warn_if_missing(run: Run) -> None:
    """Warns after the training if the objective metric was never logged."""
    if (metric := run.objective.metric) not in run.metrics:
        logged_metrics = sorted(run.metrics)
        run.warn(
            f"no objective: metric {metric!r} was never logged.{did_you_mean(metric, logged_metrics)} Available: "
            f"{', '.join(logged_metrics)}"
        )
