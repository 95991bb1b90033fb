"""State of a sweep while it runs: its trials, with intermediate results, and its progress as lines of a live view."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.api.result import FAILED, KILLED, PRUNED
from expfw.api.run_config import Objective, Train
from expfw.config.freeze import build_config
from expfw.errors import ConfigError, JournalError
from expfw.reports.console import make_console
from expfw.reports.live.live_region import format_clock, make_bars, make_line
from expfw.reports.sweep_summary import make_trials_table
from expfw.system.formatting import format_number, pluralize
from expfw.tracking import journal, ranking
from expfw.tracking.ledger import METRIC_FIELDS, WAITING, Ledger, Trial
from expfw.tracking.recorded_run import INTERRUPTED, RUNNING, RecordedRun, read_run

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_OTHER_LINES, _TABLE_FRAME_LINES = 5, 6
"""Lines of the screen that are not for running trials, and lines of the table of best trials that are not rows."""
_MAX_BYTES = 256 << 10
"""Maximum bytes of a journal to read at each update; of more new records only the last ones are read."""
_MIN_FRACTION = 0.05
"""Completed fraction of a trial before which its pace is not reliable."""


class RunningTrial:
    """A trial that runs in another process or on another machine; its journal shows its progress."""

    def __init__(self, trial: Trial, start_time: float) -> None:
        self.trial = trial
        self._start_time = self._last_read_time = start_time
        self._tail = journal.JournalTail(Path(trial.folder or "") / journal.NAME)
        self._step = 0
        self._steps_per_epoch = 0
        self._total_steps: int | None = None
        self._train_config: Train | None = None
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
                with suppress(ConfigError):  # of a damaged record
                    config = build_config(record.get("config", {}))
                    self._train_config, self._objective = config.train, config.objective
            elif kind == "dataset" and self._train_config is not None and self._objective is not None:
                batches = -(-record["samples"].get("train", 0) // self._train_config.batch_size)
                self._steps_per_epoch = max(1, batches)
                self._total_steps = self._train_config.steps or self._train_config.epochs * self._steps_per_epoch
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


@dataclass
class SweepProgress:
    """Progress of a sweep; `console.print` prints its lines.

    Attributes:
        name: title of the bar.
        trial_count: number of all trials.
        start_time: start of the sweep, in seconds since 1970.
        running_trials: running trials, by number.
        status_counts: number of trials with a result, by status; see `add_ended`.
        interrupted_count: number of interrupted trials, which can be resumed.
        ended_seconds: duration of each trial that has ended.
        best_trial: best trial so far.
    """

    name: str
    trial_count: int
    start_time: float = field(default_factory=time.time)
    running_trials: dict[int, RunningTrial] = field(default_factory=dict)
    status_counts: Counter[str] = field(default_factory=Counter)
    interrupted_count: int = 0
    ended_seconds: list[float] = field(default_factory=list)
    best_trial: Trial | None = None

    def add_ended(self, trial: Trial) -> None:
        """Counts a trial whose process has ended."""
        if trial.status in (KILLED, INTERRUPTED):
            self.interrupted_count += 1
        self.status_counts[trial.status] += trial.has_result

    @property
    def waiting_count(self) -> int:
        return self.trial_count - self.status_counts.total() - len(self.running_trials)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the end, from ended trials, or from the progress of running ones; None if unknown."""
        running_trials = [*self.running_trials.values()]  # a copy: the live view draws in another thread
        estimates = [trial.estimated_seconds for trial in running_trials]
        seconds = self.ended_seconds or [estimate for estimate in estimates if estimate is not None]
        if not seconds or not running_trials:
            return None
        mean = sum(seconds) / len(seconds)
        running_seconds = sum(max(0.0, mean - trial.seconds) for trial in running_trials)
        return (self.waiting_count * mean + running_seconds) / len(running_trials)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        running_trials, ended_count = [*self.running_trials.values()], self.status_counts.total()
        times = format_clock(time.time() - self.start_time, self.seconds_left)
        yield make_bars((self.name, ended_count, self.trial_count, times))
        counts = {
            "running": len(running_trials),
            "waiting": self.waiting_count,
            "failed": self.status_counts[FAILED],
            "pruned": self.status_counts[PRUNED],
        }
        count_texts = [f"{count:,} {status}" for status, count in counts.items() if count]
        yield make_line(f"{ended_count:,}/{self.trial_count:,} ended", *count_texts)
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, justify="right")
        for no_wrap in (False, True, True, True):
            grid.add_column(no_wrap=no_wrap)
        visible_trials = running_trials[: max(1, options.size.height - _OTHER_LINES)]
        for trial in visible_trials:
            trial.read_new_records()
            name = Text(trial.trial.name, no_wrap=True, overflow="ellipsis")
            clock = format_clock(trial.seconds)
            grid.add_row(f"  {trial.trial.number}", name, trial.position, trial.metric_text, clock)
        yield grid
        if len(visible_trials) < len(running_trials):
            yield make_line(f"      and {len(running_trials) - len(visible_trials)} more running")
        if (best := self.best_trial) is not None and best.objective is not None:
            best_text = f"best so far: {best.objective_metric} {format_number(best.objective)}"
            yield make_line(best_text, f"trial {best.number}", best.name if best.swept else "")


def read_trials(sweep: RecordedRun) -> list[Trial]:
    """Reads all trials that have started, with the intermediate results of running ones."""
    trials = []
    for trial in Ledger(sweep.folder).read_trials():
        if trial.status == RUNNING:
            trial = trial.read_current_state()
        if trial.status == RUNNING and trial.folder is not None:
            try:
                result = read_run(Path(trial.folder)).result
                trial = replace(trial, **{name: getattr(result, name) for name in (*METRIC_FIELDS, "seconds")})
            except JournalError:  # the trial had not started
                if sweep.status != RUNNING:
                    trial = replace(trial, status=WAITING, run_id=None, folder=None)
        trials.append(trial)
    return trials


def make_progress(
    sweep: RecordedRun, trials: Sequence[Trial], running_trials: Mapping[int, RunningTrial]
) -> SweepProgress:
    """Returns the progress of a sweep from its trials; keeps those of `running_trials` that still run."""
    progress = SweepProgress(f"sweep {sweep.id}", sweep.first["trials"], float(sweep.first["time"]))
    for trial in trials:
        if trial.status == RUNNING:
            start_time = time.time() - (trial.seconds or 0.0)
            known_trial = running_trials.get(trial.number)
            progress.running_trials[trial.number] = known_trial or RunningTrial(trial, start_time)
        else:
            progress.add_ended(trial)
            progress.ended_seconds += [trial.seconds] if trial.seconds and trial.has_result else []
    progress.best_trial = ranking.find_best_trial(trials, sweep.first["objective"]["mode"])
    return progress


def format_counts(sweep: RecordedRun, trials: Sequence[Trial]) -> str:
    """Formats the number of ended and running trials, and the estimated remaining time."""
    progress = make_progress(sweep, trials, {})
    parts = [f"{progress.status_counts.total()} of {pluralize(progress.trial_count, 'trial')} ended"]
    if progress.running_trials:
        parts.append(f"{len(progress.running_trials)} running")
    if progress.interrupted_count:
        parts.append(f"{progress.interrupted_count} interrupted")
    if sweep.status == RUNNING and progress.seconds_left is not None:
        parts.append(f"about {format_clock(progress.seconds_left)} left")
    return ", ".join(parts)


def watch_sweep(sweep: RecordedRun) -> None:
    """Shows the sweep, with the best trials that fit, until it ends or you press Ctrl-C."""
    from rich.console import Group
    from rich.live import Live

    console = make_console()
    if not console.is_terminal or console.is_dumb_terminal:
        return
    running_trials: Mapping[int, RunningTrial] = {}
    mode, seeds = sweep.first["objective"]["mode"], sweep.first.get("seeds", 1)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        console.show_cursor(True)  # keeps the terminal usable if the process is killed
        while sweep.status == RUNNING:
            trials = read_trials(sweep)
            progress = make_progress(sweep, trials, running_trials)
            running_trials = progress.running_trials
            groups = ranking.rank_seed_groups([trial for trial in trials if trial.status != RUNNING], mode)
            max_rows = console.height - _OTHER_LINES - len(running_trials) - _TABLE_FRAME_LINES
            table = make_trials_table(groups[: max(0, max_rows)], seeds)
            live.update(Group(progress, table) if table.rows else progress, refresh=True)
            try:
                time.sleep(1.0)
            except KeyboardInterrupt:
                return
            sweep = read_run(sweep.folder)
