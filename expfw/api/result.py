"""Result, status and logged points of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FINISHED, FAILED, KILLED, PRUNED = "FINISHED", "FAILED", "KILLED", "PRUNED"


@dataclass(frozen=True)
class Point:
    """Metric values at one optimizer step.

    Attributes:
        step: optimizer step.
        values: values by metric name.
    """

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """Result of a run.

    Attributes:
        run_id: ID of the run.
        name: readable name of the run.
        folder: run folder.
        status: FINISHED, FAILED, KILLED or PRUNED.
        metrics: value of every metric at `metrics_step`; for metrics other than `val/*` and `test/*`, the latest up to
            this step. If the tested weights are those of another step, the names of the test metrics say which:
            `test/loss (last)`.
        objective: value of the objective metric, as configured by `objective`; None if it was never measured.
        objective_metric: name of the objective metric.
        best_step: optimizer step of the best objective value.
        steps: optimizer steps completed.
        epochs: epochs completed.
        seconds: wall time of the run, without interruptions.
        error: error that ended the run, in one line; None if there was none.
        warnings: warnings of the run.
        stop_reason: reason given by the callback that stopped the run before its last step; None if it was not stopped.
        metrics_step: optimizer step of `objective` and `metrics`; None without metrics.
        metrics_epoch: epoch that ends at `metrics_step`; None within an epoch.
    """

    run_id: str
    name: str
    folder: Path
    status: str
    metrics: Mapping[str, float]
    objective: float | None
    objective_metric: str
    best_step: int | None
    steps: int
    epochs: int
    seconds: float
    error: str | None = None
    warnings: Sequence[str] = ()
    stop_reason: str | None = None
    metrics_step: int | None = None
    metrics_epoch: int | None = None

    @property
    def position(self) -> str:
        """Epoch of `metrics` as text, or the step if it is within an epoch; empty if it is unknown."""
        if self.metrics_epoch is not None:
            return f"epoch {self.metrics_epoch:,}"
        return "" if self.metrics_step is None else f"step {self.metrics_step:,}"
