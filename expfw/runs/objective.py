"""Whether what a run is judged by is measured at all."""

from __future__ import annotations

from collections.abc import Sequence

from expfw.api.data import Splits
from expfw.api.run import Run
from expfw.errors import ConfigError, did_you_mean


def choose_objective(run: Run, data: Splits, overrides: Sequence[str]) -> None:
    """Decides what counts on these data.

    Args:
        overrides: what the user typed.

    Raises:
        ConfigError: it is something that is not measured on them.
    """
    configured_metric = run.config.objective.metric
    run.objective = run.config.objective.for_splits(data.get_splits())
    if run.objective.metric != configured_metric:
        is_overridden = any(override.lstrip("+").startswith("objective.metric=") for override in overrides)
        report = run.warn if is_overridden else run.message
        report(f"no validation data: the objective is {run.objective.metric} instead of {configured_metric}")
    elif configured_metric.startswith("val/") and data.validation is None:
        raise ConfigError(
            f"objective.metric={configured_metric}, but dataset {run.config.dataset['plugin']!r} gives no validation "
            "data here: no val/... is measured; expected a metric of the training, such as "
            "objective.metric=train/epoch_loss"
        )


def warn_if_missing(run: Run) -> None:
    """Tells, after the training, of an objective that was never measured."""
    if (metric := run.objective.metric) not in run.metrics:
        logged_metrics = sorted(run.metrics)
        run.warn(
            f"no objective: {metric!r} was never logged.{did_you_mean(metric, logged_metrics)} There are: "
            f"{', '.join(logged_metrics)}"
        )
