"""Live view of a run: bars and metrics on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.run import Run
from expfw.api.run_stages import OTHER, TRAINING
from expfw.reports.live.lines import ScreenSize, fit_parts, format_clock, make_bar_line
from expfw.reports.live.live_region import can_show_live_view, live_view
from expfw.system.formatting import format_number

if TYPE_CHECKING:
    from rich.text import Text

_LINE_INTERVAL_SECONDS, _MAX_SILENCE_SECONDS = 1.0, 30.0
_ENDING_TEXT = "stopping after a checkpoint"
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
        self._is_live = can_show_live_view()
        if not self._is_live:
            yield
            return
        with live_view(self._make_lines):
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
            parts = [
                _format_epochs(run),
                f"step {run.step}/{run.total_steps}",
                *_format_metrics(run),
                *self._meter.format_throughput(run),
            ]
            print("  ".join(part for part in parts if part), file=sys.stderr)

    def _make_lines(self, size: ScreenSize) -> Sequence[Text]:
        if self._run is None:
            return []
        if not self._meter.has_begun:
            return [_make_stage_line(self._run, size)]
        return make_run_lines(self._run, self._meter, size)


class ProgressMeter:
    """Throughput and remaining time of a run.

    The first call, which includes the tracing of functions, does not count. The throughput counts training time only;
    the remaining time counts all time.
    """

    def __init__(self) -> None:
        self._history: deque[tuple[float, float, int]] = deque(
            maxlen=_WINDOW_CALLS
        )  # wall time, time in training, step
        self._first_call: tuple[float, int] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a step has ended."""
        return self._first_call is not None

    def record_steps(self, run: Run) -> None:
        """Records the end of a call, which has one or more steps."""
        now = time.monotonic()
        self._first_call = self._first_call or (now, run.step)
        self._history.append((now, run.stages.get_seconds(TRAINING), run.step))

    def measure_steps_per_second(self) -> float | None:
        """Returns steps per second of training time; None if it is not known yet."""
        if len(self._history) < 2:
            return None
        (_, start_seconds, first_step), (_, end_seconds, last_step) = self._history[0], self._history[-1]
        return (last_step - first_step) / (end_seconds - start_seconds) if end_seconds > start_seconds else None

    def estimate_seconds_left(self, run: Run) -> float | None:
        """Estimates the seconds until the last step, with evaluations, from the average pace since the first call."""
        if self._first_call is None or run.total_steps is None:
            return None
        (first_time, first_step), (last_time, _, last_step) = self._first_call, self._history[-1]
        if last_step == first_step:
            return None
        seconds_left = (run.total_steps - last_step) * (last_time - first_time) / (last_step - first_step)
        return max(0.0, seconds_left - (time.monotonic() - last_time))

    @property
    def steps_per_call(self) -> int:
        """Steps of the last call."""
        return self._history[-1][2] - self._history[-2][2] if len(self._history) > 1 else 0

    def format_throughput(self, run: Run) -> list[str]:
        """Formats the throughput; empty if it is not known yet."""
        rate = self.measure_steps_per_second()
        if rate is None:
            return []
        samples = rate * run.config.train.batch_size
        return [f"{samples:,.0f} samples/s" if samples >= 10 else f"{rate:.2g} steps/s"]


def make_run_lines(run: Run, meter: ProgressMeter, size: ScreenSize) -> list[Text]:
    """Creates a bar of the run, a bar of the epoch if an epoch has several calls, and a line of metrics."""
    from rich.text import Text

    step_label, epoch_steps, total = f"step {run.step:,}", run.steps_per_epoch, run.total_steps
    seconds_left = meter.estimate_seconds_left(run)
    times = [
        format_clock(run.seconds),
        *([f"about {format_clock(math.ceil(seconds_left))} left"] if seconds_left is not None else []),
    ]
    activity = (
        [_format_activity(run)]
        if run.interrupt_requested or run.stages.current_stage not in (TRAINING, OTHER)
        else meter.format_throughput(run)
    )
    metrics_line = Text(fit_parts(_format_metrics(run), size.width, size))
    if not total:
        return [make_bar_line(step_label, None, [*activity, *times], size), metrics_line]
    if not epoch_steps or epoch_steps == 1 or total <= epoch_steps:
        return [make_bar_line(f"{step_label}/{total:,}", run.step / total, [*times, *activity], size), metrics_line]
    if meter.steps_per_call >= epoch_steps:
        return [make_bar_line(_format_epochs(run), run.step / total, [*times, *activity], size), metrics_line]
    step_in_epoch = run.step % epoch_steps or (epoch_steps if run.step else 0)
    labels = [_format_epochs(run), f"step {step_in_epoch:,}/{epoch_steps:,}"]
    epochs = -(-total // epoch_steps)
    label_width = max(
        len(f"epoch {epochs}/{epochs}"), len(f"step {epoch_steps:,}/{epoch_steps:,}")
    )  # keeps the bars aligned
    first = make_bar_line(labels[0], run.step / total, times, size, label_width)
    return [first, make_bar_line(labels[1], step_in_epoch / epoch_steps, activity, size, label_width), metrics_line]


def _make_stage_line(run: Run, size: ScreenSize) -> Text:
    from rich.text import Text

    activity = _ENDING_TEXT if run.interrupt_requested else run.stages.current_stage
    return Text(fit_parts([activity, format_clock(time.monotonic() - run.stages.started_at)], size.width, size))


def _format_activity(run: Run) -> str:
    if run.interrupt_requested:
        return _ENDING_TEXT
    seconds = time.monotonic() - run.stages.started_at
    return f"{run.stages.current_stage}, {seconds:.0f} s" if seconds >= 1 else run.stages.current_stage


def _format_epochs(run: Run) -> str:
    epoch_steps, total = run.steps_per_epoch, run.total_steps
    return f"epoch {-(-run.step // epoch_steps)}/{-(-total // epoch_steps)}" if epoch_steps and total else ""


def _format_metrics(run: Run) -> list[str]:
    """Formats the main metrics, with the best value of the objective metric."""
    objective_metric = run.objective.metric
    names = ("train/epoch_loss" if run.epoch else "train/loss", "val/loss", "val/accuracy", objective_metric)
    parts = []
    for name in dict.fromkeys(names):
        if name in run.metrics:
            best = (
                f" (best {format_number(run.best_value)})"
                if name == objective_metric and run.best_value is not None
                else ""
            )
            parts.append(f"{name} {format_number(run.metrics[name])}{best}")
    return parts
