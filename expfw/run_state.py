"""Run, what a training tells about itself, is told, and can be asked; Result, what is left when it ended."""

from __future__ import annotations

import bisect
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.settings import Objective, RunConfig

log = logging.getLogger("expfw")
FINISHED, FAILED, KILLED, PRUNED = "FINISHED", "FAILED", "KILLED", "PRUNED"


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
        seconds: wall time from the start of the run.
        error: what went wrong, in one line; warnings: what went wrong without ending the run.
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


@dataclass
class Run:
    """One training in progress, as hooks see it.

    Attributes:
        id: short and unique; name: what people read; folder: everything the run writes lies below it.
        step: optimizer steps done; epoch: epochs completed; total_steps: steps planned, once the backend knows.
        metrics: latest value of every metric.
        recent: the points logged since the previous observing hook; each is there for one such hook.
        info: facts found on the way, for the record (number of parameters, devices, threads).
        keep_gradients: set before the first step by who wants to ask `hook.expfw_gradients`.
        training: False where a saved model is loaded, only to predict.
        objective: what counts; its metric becomes `train/epoch_loss` where there is no validation data.
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
    recent: list[Point] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    best_value: float | None = None
    best_step: int | None = None
    stop_reason: str | None = None
    pruned: bool = False
    warnings: list[str] = field(default_factory=list)
    training: bool = True
    keep_gradients: bool = False
    started: float = field(default_factory=time.time)
    _wake_steps: list[int] = field(default_factory=list)

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Records metric values at an optimizer step (by default the current one)."""
        step = self.step if step is None else step
        if not 0 <= step < 2**63:
            raise ValueError(f"step is {step}; expected 0 or more, in 64 bits")
        plain = {name: float(value) for name, value in values.items()}
        self.metrics.update(plain)
        self.recent.append(Point(step, plain))
        self.record("metrics", step=step, values=plain)
        value = plain.get(self.objective.metric)
        if value is not None and self.objective.better(value, than=self.best_value):
            self.best_value, self.best_step = value, step

    def message(self, text: str) -> None:
        """Puts one line about the run into its record."""
        self.record("message", step=self.step, text=text)

    def warn(self, text: str) -> None:
        """Tells the user in one line, on the screen and in the record, what may be other than expected."""
        log.warning(text)
        print(f"expfw: {text}", file=sys.stderr)
        self.warnings.append(text)
        self.message(text)

    def add_artifact(self, path: Path) -> None:
        """Gives a file or folder below the run's folder to the trackers.

        Raises:
            ValueError: the path lies elsewhere, or nothing is there.
        """
        relative = Path(path).resolve().relative_to(self.folder.resolve())
        if not Path(path).exists():
            raise ValueError(f"add_artifact was given {path}, where nothing is")
        self.record("artifact", path=str(relative))

    def wake_at(self, step: int) -> None:
        """Asks for `expfw_steps_ended` at this optimizer step; the engine ends a call there."""
        if step > self.step and step not in self._wake_steps:
            bisect.insort(self._wake_steps, step)

    def next_wake(self) -> int | None:
        """The nearest step after the current one that somebody asked for."""
        while self._wake_steps and self._wake_steps[0] <= self.step:
            self._wake_steps.pop(0)
        return self._wake_steps[0] if self._wake_steps else None

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
    def stopping(self) -> bool:
        """Whether somebody asked for the end."""
        return self.stop_reason is not None

    def result(self, status: str | None = None, error: str | None = None) -> Result:
        """The result as far as the run has come."""
        last = self.metrics.get(self.objective.metric)
        return Result(
            run_id=self.id,
            name=self.name,
            folder=self.folder,
            status=status or (PRUNED if self.pruned else FINISHED),
            metrics=dict(self.metrics),
            objective=self.best_value if self.objective.take == "best" else last,
            objective_metric=self.objective.metric,
            best_step=self.best_step,
            steps=self.step,
            epochs=self.epoch,
            seconds=time.time() - self.started,
            error=error,
            warnings=tuple(self.warnings),
        )
