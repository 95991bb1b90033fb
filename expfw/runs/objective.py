"""Whether what a run is judged by is measured at all."""

from __future__ import annotations

from collections.abc import Sequence

from expfw.api.data import Splits
from expfw.api.run import Run
from expfw.errors import ConfigError, did_you_mean


def settle(run: Run, data: Splits, overrides: Sequence[str]) -> None:
    """Decides what counts on these data.

    Args:
        overrides: what the user typed.

    Raises:
        ConfigError: it is something that is not measured on them.
    """
    wanted = run.config.objective.metric
    run.objective = run.config.objective.on(data.present())
    if run.objective.metric != wanted:
        typed = any(word.lstrip("+").startswith("objective.metric=") for word in overrides)
        tell = run.warn if typed else run.message
        tell(f"no validation data: the objective is {run.objective.metric} instead of {wanted}")
    elif wanted.startswith("val/") and data.validation is None:
        raise ConfigError(
            f"objective.metric={wanted}, but dataset {run.config.dataset['plugin']!r} gives no validation data here: "
            "no val/... is measured; expected a metric of the training, such as objective.metric=train/epoch_loss"
        )


def warn_if_absent(run: Run) -> None:
    """Tells, after the training, of an objective that was never measured."""
    if (wanted := run.objective.metric) not in run.metrics:
        known = sorted(run.metrics)
        run.warn(
            f"no objective: {wanted!r} was never logged.{did_you_mean(wanted, known)} There are: {', '.join(known)}"
        )
