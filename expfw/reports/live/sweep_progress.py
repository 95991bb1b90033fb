"""Lines of a sweep in progress: a bar, counts, a line for each running trial, and the best trial."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.result import FAILED, PRUNED
from expfw.api.run_config import Objective
from expfw.reports.live.live_region import format_clock, make_bars, make_line
from expfw.system.formatting import format_number
from expfw.tracking import journal
from expfw.tracking.journal import JournalTail
from expfw.tracking.ledger import Trial

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

OTHER_LINES = 5
"""Lines of the screen that are not for running trials."""
_MAX_BYTES = 256 << 10
"""Maximum bytes of a journal to read at each update; of more new records only the last ones are read."""
_MIN_FRACTION = 0.05
"""Completed fraction of a trial before which its pace is not reliable."""


class RunningTrial:
    """A trial that runs in another process or on another machine; its journal shows its progress."""

    def __init__(self, trial: Trial, start_time: float) -> None:
        self.trial = trial
        self._start_time = self._last_read_time = start_time
        self._tail = JournalTail(Path(trial.folder or "") / journal.NAME)
        self._step = 0
        self._steps_per_epoch = 0
        self._total_steps: int | None = None
        self._train_config: Mapping[str, Any] = {}
        self._objective: Objective | None = None
        self._objective_value: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return max(0.0, time.time() - self._start_time)

    def read_new_records(self) -> None:
        """Reads the new records of the journal, at most once per second, for the first time after one second."""
        if time.time() - self._last_read_time < 1.0:
            return
        self._last_read_time = time.time()
        for record in self._tail.read_new(_MAX_BYTES):
            kind = record["kind"]
            if kind in ("run_started", "run_resumed"):
                self._train_config = record["config"]["train"]
                self._objective = Objective(**record["config"]["objective"])
            elif kind == "dataset" and self._train_config and self._objective is not None:
                self._steps_per_epoch = max(1, -(-record["samples"]["train"] // self._train_config["batch_size"]))
                self._total_steps = self._train_config["steps"] or self._train_config["epochs"] * self._steps_per_epoch
                self._objective = self._objective.for_splits(record["samples"])
            elif kind == "metrics" and self._objective is not None:
                self._step = max(self._step, record["step"])
                self._objective_value = record["values"].get(self._objective.metric, self._objective_value)

    @property
    def estimated_seconds(self) -> float | None:
        """Estimated seconds of the whole trial; None before its pace is known."""
        fraction = min(1.0, self._step / self._total_steps) if self._total_steps else 0.0
        return self.seconds / fraction if fraction > _MIN_FRACTION else None

    @property
    def position(self) -> str:
        """Current epoch or step, with the total."""
        if not self._total_steps:
            return "starting"
        if not self._step:
            return "first steps"
        if self._steps_per_epoch == 1 or self._total_steps <= self._steps_per_epoch:
            return f"step {self._step}/{self._total_steps}"
        epochs = -(-self._total_steps // self._steps_per_epoch)
        return f"epoch {min(epochs, self._step // self._steps_per_epoch + 1)}/{epochs}"

    @property
    def metric_text(self) -> str:
        """Name and latest value of the objective metric."""
        if self._objective_value is None or self._objective is None:
            return ""
        return f"{self._objective.metric} {format_number(self._objective_value)}"


@dataclass(frozen=True)
class SweepProgress:
    """Progress of a sweep, with the number of ended trials by status; `console.print` prints its lines."""

    name: str
    trial_count: int
    status_counts: Mapping[str, int]
    running_trials: Sequence[RunningTrial]
    ended_seconds: Sequence[float]
    elapsed_seconds: float
    best_trial: Trial | None

    @property
    def ended_count(self) -> int:
        return sum(self.status_counts.values())

    @property
    def waiting_count(self) -> int:
        return self.trial_count - self.ended_count - len(self.running_trials)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the end, from ended trials, or from the progress of running ones; None if unknown."""
        estimates = [trial.estimated_seconds for trial in self.running_trials]
        seconds = self.ended_seconds or [estimate for estimate in estimates if estimate is not None]
        if not seconds or not self.running_trials:
            return None
        mean = sum(seconds) / len(seconds)
        running_seconds = sum(max(0.0, mean - trial.seconds) for trial in self.running_trials)
        return (self.waiting_count * mean + running_seconds) / len(self.running_trials)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        times = format_clock(self.elapsed_seconds, self.seconds_left)
        yield make_bars((self.name, self.ended_count, self.trial_count, times))
        counts = {
            "running": len(self.running_trials),
            "waiting": self.waiting_count,
            "failed": self.status_counts.get(FAILED, 0),
            "pruned": self.status_counts.get(PRUNED, 0),
        }
        count_texts = [f"{count:,} {status}" for status, count in counts.items() if count]
        yield make_line(f"{self.ended_count:,}/{self.trial_count:,} ended", *count_texts)
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, justify="right")
        for no_wrap in (False, True, True, True):
            grid.add_column(no_wrap=no_wrap)
        visible_trials = self.running_trials[: max(1, options.size.height - OTHER_LINES)]
        for trial in visible_trials:
            trial.read_new_records()
            name = Text(trial.trial.name, no_wrap=True, overflow="ellipsis")
            clock = format_clock(trial.seconds)
            grid.add_row(f"  {trial.trial.number}", name, trial.position, trial.metric_text, clock)
        yield grid
        if len(visible_trials) < len(self.running_trials):
            yield make_line(f"      and {len(self.running_trials) - len(visible_trials)} more running")
        if (best := self.best_trial) is not None and best.objective is not None:
            best_text = f"best so far: {best.objective_metric} {format_number(best.objective)}"
            yield make_line(best_text, f"trial {best.number}", best.name if best.swept else "")
