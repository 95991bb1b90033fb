"""Live view of a run: bars and metrics on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.run import Run
from expfw.api.run_stages import OTHER, TRAINING
from expfw.reports.live.live_region import format_clock, live_view, make_bars, make_line
from expfw.system.formatting import format_number

if TYPE_CHECKING:
    from rich.console import RenderableType

_LINE_INTERVAL_SECONDS, _MAX_SILENCE_SECONDS = 1.0, 30.0
_WINDOW_CALLS = 32
"""Engine calls over which the throughput is measured; there are about three per second."""


class RunLiveView(Plugin):
    """Live view of a run; register it with the run and enter `show` around it."""

    kind = "observer"

    def __init__(self) -> None:
        super().__init__(config=None, name="progress")
        self._run: Run | None = None
        self._meter = ProgressMeter()
        self._is_live = False
        self._last_print_time = time.monotonic()

    @contextmanager
    def show(self) -> Iterator[None]:
        """Shows the run until the context exits."""
        with live_view(lambda: "" if self._run is None else draw_run(self._run, self._meter)) as self._is_live:
            yield

    @hookimpl(wrapper=True, tryfirst=True)
    def expfw_load_data(self, run: Run) -> Iterator[None]:
        self._run = run
        return (yield)

    @hookimpl
    def expfw_steps_ended(self, run: Run) -> None:
        self._meter.record_steps(run)
        if time.monotonic() - self._last_print_time > _MAX_SILENCE_SECONDS:
            self._print_line(run)

    @hookimpl
    def expfw_epoch_ended(self, run: Run) -> None:
        if run.step == run.total_steps or time.monotonic() - self._last_print_time > _LINE_INTERVAL_SECONDS:
            self._print_line(run)

    def _print_line(self, run: Run) -> None:
        if not self._is_live:
            self._last_print_time = time.monotonic()
            step_text = f"step {run.step}/{run.total_steps}"
            print(
                make_line(_format_epochs(run), step_text, *_format_metrics(run), self._meter.format_throughput(run)),
                file=sys.stderr,
            )


class ProgressMeter:
    """Throughput and remaining time of a run.

    The first call, which includes the tracing of functions, does not count. The throughput counts training time only;
    the remaining time counts all time.
    """

    def __init__(self) -> None:
        # Wall time, time in training, and step of the last calls.
        self.history: deque[tuple[float, float, int]] = deque(maxlen=_WINDOW_CALLS)
        self._first_call: tuple[float, int] | None = None
        self.last_call_steps = 0

    def record_steps(self, run: Run) -> None:
        """Records the end of a call, which has one or more steps."""
        now = time.monotonic()
        self._first_call = self._first_call or (now, run.step)
        self.last_call_steps = run.step - self.history[-1][2] if self.history else 0
        self.history.append((now, run.stages.get_seconds_by_stage().get(TRAINING, 0.0), run.step))

    @property
    def steps_per_second(self) -> float | None:
        """Steps per second of training time; None if it is not known yet."""
        if len(self.history) < 2:
            return None
        (_, start_seconds, first_step), (_, end_seconds, last_step) = self.history[0], self.history[-1]
        return (last_step - first_step) / (end_seconds - start_seconds) if end_seconds > start_seconds else None

    def estimate_seconds_left(self, run: Run) -> float | None:
        """Estimates the seconds until the last step, with evaluations, from the average pace since the first call."""
        if self._first_call is None or run.total_steps is None:
            return None
        (first_time, first_step), (last_time, _, last_step) = self._first_call, self.history[-1]
        if last_step == first_step:
            return None
        seconds_left = (run.total_steps - last_step) * (last_time - first_time) / (last_step - first_step)
        return math.ceil(max(0.0, seconds_left - (time.monotonic() - last_time)))

    def format_throughput(self, run: Run) -> str:
        """Formats the throughput; empty if it is not known yet."""
        if self.steps_per_second is None:
            return ""
        samples = self.steps_per_second * run.config.train.batch_size
        return f"{samples:,.0f} samples/s" if samples >= 10 else f"{self.steps_per_second:.2g} steps/s"


def draw_run(run: Run, meter: ProgressMeter) -> RenderableType:
    """Draws a bar of the run, a bar of the epoch if an epoch has several calls, and a line of metrics."""
    from rich.console import Group

    activity = f"{run.stages.current_stage}  {format_clock(time.monotonic() - run.stages.started_at)}"
    if run.interrupt_requested:
        activity = "stopping after a checkpoint"
    elif meter.history and run.stages.current_stage in (TRAINING, OTHER):
        activity = meter.format_throughput(run)
    if not meter.history:
        return activity
    times = format_clock(run.seconds, meter.estimate_seconds_left(run))
    metrics_line = make_line(*_format_metrics(run))
    total, epoch_steps = run.total_steps, run.steps_per_epoch or 1
    if not total:
        return Group(make_line(f"step {run.step:,}", activity, times), metrics_line)
    has_epochs = 1 < epoch_steps < total
    if has_epochs and meter.last_call_steps < epoch_steps:
        step = run.step % epoch_steps or (epoch_steps if run.step else 0)
        return Group(
            make_bars(
                (_format_epochs(run), run.step, total, times),
                (f"step {step:,}/{epoch_steps:,}", step, epoch_steps, activity),
            ),
            metrics_line,
        )
    label = _format_epochs(run) if has_epochs else f"step {run.step:,}/{total:,}"
    return Group(make_bars((label, run.step, total, f"{times}  {activity}")), metrics_line)


def _format_epochs(run: Run) -> str:
    epoch_steps, total = run.steps_per_epoch, run.total_steps
    return f"epoch {-(-run.step // epoch_steps)}/{-(-total // epoch_steps)}" if epoch_steps and total else ""


def _format_metrics(run: Run) -> list[str]:
    """Formats the main metrics, with the best value of the objective metric."""
    objective_metric = run.objective.metric
    names = ("train/epoch_loss" if run.epoch else "train/loss", "val/loss", "val/accuracy", objective_metric)
    parts = {name: f"{name} {format_number(run.metrics[name])}" for name in names if name in run.metrics}
    if objective_metric in parts and run.best_value is not None:
        parts[objective_metric] += f" (best {format_number(run.best_value)})"
    return list(parts.values())
