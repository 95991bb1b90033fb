"""Run, what a training tells about itself, is told, and can be asked; Result, what is left when it ended."""

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
from expfw.api.run_config import Objective, RunConfig
from expfw.api.run_stages import Stages
from expfw.redaction import find_secrets, hide_secrets
from expfw.system.signals import Killed

log = logging.getLogger("expfw")
FINISHED, FAILED, KILLED, PRUNED = "FINISHED", "FAILED", "KILLED", "PRUNED"
PRUNE_FILE = "prune"
"""A file in a run's folder that asks it to end as PRUNED; it holds the reason."""
_STATE_FIELDS = (
    "step",
    "epoch",
    "metrics",
    "best_value",
    "best_step",
    "stop_reason",
    "pruned",
    "warnings",
    "_hook_steps",
)


@dataclass(frozen=True)
class Point:
    """Metric values at one optimizer step."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        status: FINISHED, FAILED, KILLED or PRUNED.
        metrics: the last value of every metric.
        objective: the value that `objective` in the config asks for; None where it was never measured.
        objective_metric: the metric it was taken from.
        best_step: optimizer step of the best objective so far.
        steps, epochs: how far the training went.
        seconds: wall time of the run, without interruptions.
        error: what went wrong, in one line; warnings: what went wrong without ending the run.
        stop_reason: why it ended before its last step, where a callback asked for that.
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


@dataclass
class Run:
    """One training in progress, as hooks see it.

    Attributes:
        id: short and unique; name: what people read; folder: everything the run writes lies below it.
        step: optimizer steps done; epoch: epochs completed; total_steps: steps planned, once the backend knows.
        metrics: latest value of every metric.
        recent_points: in an observing hook, the points logged since the previous one; each is there for one such hook,
            the same for everybody. None are in `expfw_run_started` and `expfw_safe_point`.
        next_points: the points that the next observing hook will tell of.
        info: facts found on the way, for the record (number of parameters, devices, threads).
        keep_gradients: set before the first step by who wants to ask `hook.expfw_gradients`.
        training: False where a saved model is loaded, only to predict.
        resumed_at: the step of the checkpoint that the run goes on from; None where it begins.
        checkpoint: what the backend goes on from; it takes it away.
        swept: in a trial of a sweep, what tells it from the others, by dotted key; empty in a run of its own.
        leave_requested: somebody asked this process to end; leaving: it does so now, after a checkpoint.
        take_snapshot, read_points: what `snapshot` and `points` ask; the host sets them.
        objective: what counts; its metric becomes `train/epoch_loss` where there is no validation data.
        stages: what goes on, and how long what has taken; see `stage`.
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
    stop_reason: str | None = None
    pruned: bool = False
    warnings: list[str] = field(default_factory=list)
    training: bool = True
    keep_gradients: bool = False
    resumed_at: int | None = None
    checkpoint: Snapshot | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    leave_requested: bool = False
    leaving: bool = False
    take_snapshot: Callable[[Any], Snapshot] | None = None
    read_points: Callable[[], list[Point]] | None = None
    spent: float = 0.0
    stages: Stages = field(default_factory=Stages)
    _started_at: float = field(default_factory=time.monotonic)
    _hook_steps: list[int] = field(default_factory=list)

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Records metric values at an optimizer step (by default the current one)."""
        step = self.step if step is None else step
        if not 0 <= step < 2**63:
            raise ValueError(f"step is {step}; expected 0 or more, in 64 bits")
        float_values = {name: float(value) for name, value in values.items()}
        self.metrics.update(float_values)
        point = Point(step, float_values)
        self.next_points.append(point)
        self.record("metrics", step=step, values=float_values)
        self._update_best_value([point])

    def log_steps(self, values: Mapping[str, Any], step: int) -> None:
        """Records the values of metrics at each of some consecutive steps, beginning at `step`.

        The same as `log` for one step after the other; for engines, which may take less than 0.1 ms for a step.

        Args:
            values: for each metric as many values as there are steps, in a list or an array.
        """
        columns = {name: [float(value) for value in column] for name, column in values.items()}
        rows = zip(*columns.values(), strict=True)
        points = [Point(step + index, dict(zip(columns, row, strict=True))) for index, row in enumerate(rows)]
        if not points:
            return
        self.metrics.update(points[-1].values)
        self.next_points += points
        self.record("series", step=step, values=columns)
        self._update_best_value(points)

    def _update_best_value(self, points: Sequence[Point]) -> None:
        metric = self.objective.metric
        if metric not in points[0].values:
            return
        for point in points:
            if self.objective.is_better(point.values[metric], than=self.best_value):
                self.best_value, self.best_step = point.values[metric], point.step

    def message(self, text: str) -> None:
        """Puts one line about the run into its record."""
        self.record("message", step=self.step, text=text)

    def warn(self, text: str) -> None:
        """Tells the user in one line, on the screen and in the record, what may be other than expected."""
        text = hide_secrets(
            text, find_secrets(vars(self.config))
        )  # an error may quote them, and a checkpoint keeps warnings
        log.warning(text)
        print(f"expfw: {text}", file=sys.stderr)
        self.warnings.append(text)
        self.message(text)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Says what happens within, for displays and profiles; a backend says `training` of its steps."""
        return self.stages.measure_stage(name)

    def add_artifact(self, path: Path) -> None:
        """Gives a file or folder below the run's folder to the trackers.

        Raises:
            ValueError: the path lies elsewhere, or nothing is there.
        """
        relative = Path(path).resolve().relative_to(self.folder.resolve())
        if not Path(path).exists():
            raise ValueError(f"add_artifact was given {path}, where nothing is")
        self.record("artifact", path=str(relative))

    def call_hooks_at(self, step: int) -> None:
        """Asks for `expfw_steps_ended` at this optimizer step; the engine ends a call there."""
        if step > self.step and step not in self._hook_steps:
            bisect.insort(self._hook_steps, step)

    def next_hook_step(self) -> int | None:
        """The nearest step after the current one that somebody asked for."""
        while self._hook_steps and self._hook_steps[0] <= self.step:
            self._hook_steps.pop(0)
        return self._hook_steps[0] if self._hook_steps else None

    def request_stop(self, reason: str) -> None:
        """Ends the training after the current hook, as a success; the first reason is kept."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.message(f"stop: {reason}")

    def prune(self, reason: str = "not promising") -> None:
        """Ends the training after the current hook, with the status PRUNED."""
        self.pruned = True
        self.request_stop(reason)

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked for the end."""
        return self.stop_reason is not None

    def safe_point(self, leaving: bool | None = None) -> None:
        """To be called by a backend after each call and all that belongs to it, when the state is complete.

        Checkpoints are made here, and a run that was asked to leave, or to give up, does so.

        Args:
            leaving: whether it leaves, where several processes have to do so at the same step.

        Raises:
            Killed: it leaves.
        """
        self.leaving = self.leave_requested if leaving is None else leaving
        self._prune_if_requested()
        self.hook.expfw_safe_point(run=self)
        if self.leaving:
            raise Killed("left after a checkpoint was due")

    def _prune_if_requested(self) -> None:
        """Is pruned where a sweep asks for it; one that has done all its steps stays as good as it is."""
        prune_file = self.folder / PRUNE_FILE
        if not self.is_stopping and self.step != self.total_steps and prune_file.exists():
            self.prune(prune_file.read_text())

    def snapshot(self, model: Any) -> Snapshot:
        """The complete state of the training, copied: `write` it when and where you like, in any thread.

        It is right only in `expfw_safe_point`.
        """
        assert self.take_snapshot is not None, "the host sets it before the first step"
        with self.stage("taking a checkpoint"):
            return self.take_snapshot(model)

    def points(self) -> list[Point]:
        """All points logged so far, those before an interruption among them; read from the journal."""
        return self.read_points() if self.read_points is not None else []

    def state(self) -> dict[str, Any]:
        """What the run knows, as JSON values, for a checkpoint."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _STATE_FIELDS}
        return state | {"recent": [[p.step, dict(p.values)] for p in self.next_points], "spent": self.seconds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name in _STATE_FIELDS:
            setattr(self, name, state[name])
        self.next_points = [Point(step, values) for step, values in state["recent"]]
        self.spent, self.resumed_at = state["spent"], self.step

    @property
    def seconds(self) -> float:
        """Wall time spent, with that before an interruption."""
        return self.spent + time.monotonic() - self._started_at

    def result(self, status: str | None = None, error: str | None = None) -> Result:
        """The result as far as the run has come."""
        last_value = self.metrics.get(self.objective.metric)
        return Result(
            run_id=self.id,
            name=self.name,
            folder=self.folder,
            status=status or (PRUNED if self.pruned else FINISHED),
            metrics=dict(self.metrics),
            objective=self.best_value if self.objective.take == "best" else last_value,
            objective_metric=self.objective.metric,
            best_step=self.best_step,
            steps=self.step,
            epochs=self.epoch,
            seconds=self.seconds,
            error=error,
            warnings=tuple(self.warnings),
            stop_reason=self.stop_reason,
        )
