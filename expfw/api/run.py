"""A run in progress, as passed to hooks."""

from __future__ import annotations

import bisect
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.api.checkpoints import Snapshot
from expfw.api.result import FINISHED, PRUNED, Point, Result
from expfw.api.run_config import Objective, RunConfig
from expfw.api.run_stages import Stages
from expfw.redaction import redact_text
from expfw.system.signals import Killed

log = logging.getLogger("expfw")
_SPLITS = ("val/", "test/")
PRUNE_FILE = "prune"
"""File in the run folder that requests the status PRUNED; it contains the reason."""
_SAVED = (
    *("step", "epoch", "metrics", "best_value", "best_step", "stop_reason", "pruned", "warnings", "_hook_steps"),
    *("result_step", "result_metrics", "_metric_steps"),
)


@dataclass
class Run:
    """A run in progress, passed to hooks.

    Attributes:
        id: short unique ID.
        name: readable name.
        folder: folder of all files that the run writes.
        config: frozen configuration.
        objective: objective of the run; its metric becomes `train/epoch_loss` if there is no validation data.
        record: function that appends a record to the journal.
        hook: caller of all hooks, as in `run.hook.expfw_predict(model=model, x=x)`.
        step: optimizer steps completed.
        epoch: epochs completed.
        total_steps: planned optimizer steps; None until the backend has set it.
        steps_per_epoch: optimizer steps of one epoch; None until the backend has set it.
        metrics: latest value of every metric.
        recent_points: in an observing hook, the points logged since the previous observing hook. Each point is passed
            to exactly one hook, the same hook in all plugins. Empty in `expfw_run_started` and `expfw_safe_point`.
        next_points: points for the next observing hook.
        info: additional information to record, such as number of parameters, devices, threads.
        best_value: best value of the objective metric so far; None before the first one.
        best_step: optimizer step of `best_value`.
        result_step: optimizer step of the value that ranks the run so far; None before the first one.
        result_metrics: metrics at `result_step`, see `Result.metrics`.
        test_on: weights to test and to save, `best` or `last`: `train.test_on` for the available data.
        model_step: optimizer step of the tested and saved weights; None for the current step.
        stop_reason: reason of the first `request_stop`; None if there was none.
        pruned: whether the run was pruned.
        warnings: warnings so far.
        training: False if a saved model is loaded for prediction only.
        keep_gradients: set it to True before the first step to enable `hook.expfw_gradients`.
        resumed_at: step of the checkpoint that the training resumes from; None if it starts without a checkpoint.
        checkpoint: checkpoint that the backend resumes from; the backend sets it to None after reading it.
        swept: values of the swept parameters of a trial, by dotted key; empty in a single run.
        files: plugin files of the run.
        interrupt_requested: whether this process was interrupted.
        is_interrupted: whether the run ends at this safe point because of an interruption.
        take_snapshot: function that `snapshot` calls; set by expfw.
        read_points: function that `points` calls; set by expfw.
        spent: wall time before the last interruption, in seconds.
        stages: current stage and time per stage; see `stage`.
    """

    id: str
    name: str
    folder: Path
    config: RunConfig
    objective: Objective
    record: Callable[..., None]
    hook: Any = None
    step: int = 0
    epoch: int = 0
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    recent_points: list[Point] = field(default_factory=list)
    next_points: list[Point] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    best_value: float | None = None
    best_step: int | None = None
    result_step: int | None = None
    result_metrics: dict[str, float] = field(default_factory=dict)
    test_on: str = "last"
    model_step: int | None = None
    stop_reason: str | None = None
    pruned: bool = False
    warnings: list[str] = field(default_factory=list)
    training: bool = True
    keep_gradients: bool = False
    resumed_at: int | None = None
    checkpoint: Snapshot | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[str] = ()
    interrupt_requested: bool = False
    is_interrupted: bool = False
    take_snapshot: Callable[[Any], Snapshot] | None = None
    read_points: Callable[[], list[Point]] | None = None
    spent: float = 0.0
    stages: Stages = field(default_factory=Stages)
    _started_at: float = field(default_factory=time.monotonic)
    _hook_steps: list[int] = field(default_factory=list)
    _metric_steps: dict[str, int] = field(default_factory=dict)

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Records metric values at an optimizer step.

        Args:
            values: values by metric name.
            step: optimizer step; the current one by default.

        Raises:
            ValueError: if the step is negative or does not fit into 64 bits.
        """
        step = self.step if step is None else step
        if not 0 <= step < 2**63:
            raise ValueError(f"step is {step}; expected a 64-bit integer, 0 or more")
        float_values = {name: float(value) for name, value in values.items()}
        self._log_points("metrics", [Point(step, float_values)], float_values)

    def log_steps(self, values: Mapping[str, Any], step: int) -> None:
        """Records metric values at consecutive steps, like one `log` per step but faster, for steps below 0.1 ms.

        Args:
            values: for each metric a list or array with one value per step.
            step: first optimizer step.
        """
        columns = {name: [float(value) for value in column] for name, column in values.items()}
        rows = zip(*columns.values(), strict=True)
        points = [Point(step + index, dict(zip(columns, row, strict=True))) for index, row in enumerate(rows)]
        if points:
            self._log_points("series", points, columns)

    def _log_points(self, kind: str, points: Sequence[Point], values: Mapping[str, Any]) -> None:
        self.next_points += points
        self.record(kind, step=points[0].step, values=values)
        is_ranked = self.objective.metric in points[0].values  # otherwise only the first may be of `result_step`
        self._update_result(points if is_ranked else [points[0], points[-1]])

    def _update_result(self, points: Sequence[Point]) -> None:
        metric, is_last = self.objective.metric, self.objective.take == "last"
        for point in points:
            step, value = point.step, point.values.get(metric)
            self.metrics.update(point.values)
            self._metric_steps.update(dict.fromkeys(point.values, step))
            if is_best := value is not None and self.objective.is_better(value, than=self.best_value):
                self.best_value, self.best_step = value, step
            if (value is not None and metric.startswith(_SPLITS)) if is_last else is_best:
                self.result_step, self.result_metrics = step, self._select_metrics(step)
            elif step == self.result_step:
                self.result_metrics.update(point.values)

    def _select_metrics(self, step: int) -> dict[str, float]:
        """Returns the metrics at this step; of those that are not evaluated, the latest ones."""
        return {n: v for n, v in self.metrics.items() if self._metric_steps.get(n) == step or not n.startswith(_SPLITS)}

    def message(self, text: str) -> None:
        """Records a one-line message in the journal."""
        self.record("message", step=self.step, text=text)

    def warn(self, text: str) -> None:
        """Prints and records a one-line warning."""
        text = redact_text(text)  # errors may quote secrets
        log.warning(text)
        print(f"expfw: {text}", file=sys.stderr)
        self.warnings.append(text)
        self.message(text)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Returns a context manager that names the current stage in live views and profiles.

        A backend uses the stage `training` for its steps.
        """
        return self.stages.measure_stage(name)

    def add_artifact(self, path: Path) -> None:
        """Sends a file or folder inside the run folder to the trackers.

        Raises:
            ValueError: if the path is outside the run folder or does not exist.
        """
        relative = Path(path).resolve().relative_to(self.folder.resolve())
        if not Path(path).exists():
            raise ValueError(f"cannot add artifact {path}: no such file or folder")
        self.record("artifact", path=str(relative))

    def call_hooks_at(self, step: int) -> None:
        """Requests a call of `expfw_steps_ended` at this optimizer step; a call of the engine ends at that step."""
        if step > self.step and step not in self._hook_steps:
            bisect.insort(self._hook_steps, step)

    def next_hook_step(self) -> int | None:
        """Returns the nearest requested step after the current one, or None."""
        while self._hook_steps and self._hook_steps[0] <= self.step:
            self._hook_steps.pop(0)
        return self._hook_steps[0] if self._hook_steps else None

    def request_stop(self, reason: str) -> None:
        """Stops the training after the current hook, with the status FINISHED; the first reason is kept."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.message(f"stop: {reason}")

    def prune(self, reason: str = "not promising") -> None:
        """Stops the training after the current hook, with the status PRUNED."""
        self.pruned = True
        self.request_stop(reason)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was requested."""
        return self.stop_reason is not None

    def safe_point(self, interrupted: bool | None = None) -> None:
        """Marks a step at which the state of the run is complete.

        A backend calls it after each call of the engine, after all other hooks. Checkpoints are taken here. The run is
        pruned here if the sweep requested it, and ends here if the process was interrupted.

        Args:
            interrupted: whether the run ends here because of an interruption; by default `interrupt_requested`. A
                backend with several processes passes the same value in each process.

        Raises:
            Killed: if the run ends here because of an interruption.
        """
        self.is_interrupted = self.interrupt_requested if interrupted is None else interrupted
        prune_file = self.folder / PRUNE_FILE
        # a run that has completed all its steps is not pruned
        if not self.is_stopping and self.step != self.total_steps and prune_file.exists():
            self.prune(prune_file.read_text())
        self.hook.expfw_safe_point(run=self)
        if self.is_interrupted:
            raise Killed("interrupted at a safe point")

    def snapshot(self, model: Any) -> Snapshot:
        """Returns a copy of the state, which is complete only in `expfw_safe_point`; any thread may write it later."""
        assert self.take_snapshot is not None, "snapshot() is called before the first step"
        with self.stage("taking a checkpoint"):
            return self.take_snapshot(model)

    def points(self) -> list[Point]:
        """Returns all points logged so far, including those before an interruption; reads them from the journal."""
        return self.read_points() if self.read_points is not None else []

    def state(self) -> dict[str, Any]:
        """Returns the run's state for a checkpoint, as JSON values."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _SAVED}
        return state | {"recent": [[p.step, dict(p.values)] for p in self.next_points], "spent": self.seconds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores the values of `state`."""
        for name in _SAVED:
            setattr(self, name, state[name])
        self.next_points = [Point(step, values) for step, values in state["recent"]]
        self.spent, self.resumed_at = state["spent"], self.step

    @property
    def seconds(self) -> float:
        """Wall time in seconds, including the time before an interruption."""
        return self.spent + time.monotonic() - self._started_at

    def result(self, status: str | None = None, error: str | None = None) -> Result:
        """Returns the result up to the current step."""
        step = self.step if self.result_step is None else self.result_step
        metrics = {n: v for n, v in self.metrics.items() if not n.startswith(("train/", "val/", "test/"))}  # of the run
        metrics |= self.result_metrics or self._select_metrics(step)
        for name in [n for n in self.metrics if n.startswith("test/") and n not in metrics]:  # of other weights
            if weights := {self.best_step: "best", self.step: "last"}.get(self._metric_steps.get(name, -1)):
                metrics[f"{name} ({weights})"] = self.metrics[name]
        epoch, steps_since_epoch = divmod(step, self.steps_per_epoch or step + 1)
        return Result(
            run_id=self.id,
            name=self.name,
            folder=self.folder,
            status=status or (PRUNED if self.pruned else FINISHED),
            metrics=metrics,
            objective=self.metrics.get(self.objective.metric) if self.objective.take == "last" else self.best_value,
            objective_metric=self.objective.metric,
            best_step=self.best_step,
            steps=self.step,
            epochs=self.epoch,
            seconds=self.seconds,
            error=error,
            warnings=tuple(self.warnings),
            stop_reason=self.stop_reason,
            metrics_step=step if metrics else None,
            metrics_epoch=epoch if metrics and self.steps_per_epoch and not steps_since_epoch else None,
        )
