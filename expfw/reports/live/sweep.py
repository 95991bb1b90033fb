"""Live view of a sweep: totals and running trials on a terminal, a line for each ended trial elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.result import FAILED, FINISHED, PRUNED
from expfw.api.run_config import Objective
from expfw.reports.live.lines import INDENT, ScreenSize, fold_first_line
from expfw.reports.live.live_region import can_show_live_view, live_view
from expfw.reports.live.sweep_lines import NON_TRIAL_LINES, RunningTrialRow, SweepTotals, make_sweep_lines
from expfw.reports.live.trial_progress import TrialProgress
from expfw.system.formatting import format_number, pluralize
from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.run_folders import LOG_FILE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_REFRESH_SECONDS = 1.0
_LINES_BEFORE_LIMIT, _LINE_INTERVAL_SECONDS = 50, 1.0
"""The first 50 lines of ended trials are all printed; then one per second, with the number of skipped lines."""
_NOTHING_SWEPT_HINT = (
    "no swept parameters: this sweep trains once, as `expfw run` does; to sweep, list several values, such as "
    "model.units=32,64"
)
_MIN_FRACTION = 0.05
"""Completed fraction of a trial before which its pace is not reliable."""


class _RunningTrial:
    """A running trial."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.start_time = time.monotonic()
        self.progress = TrialProgress(Path(trial.folder or ""))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start_time

    def make_row(self) -> RunningTrialRow:
        """Returns the row of the live view."""
        return RunningTrialRow(
            self.trial.number, self.trial.name, self.progress.position, self.progress.metric_text, self.seconds
        )


class SweepLiveView(Plugin):
    """Live view of a sweep; register it with the sweep and enter `show` around it.

    It prints to stderr because the result on stdout may be piped. A `quiet` sweep prints only failures and warnings.
    The cost per trial does not depend on the number of trials.

    Args:
        print_failures: whether to print failed trials.
    """

    kind = "observer"

    def __init__(self, print_failures: bool = True) -> None:
        super().__init__(config=None, name="progress")
        self._prints_failures = print_failures
        self._console: Console | None = None
        self._is_quiet = False
        self._label = ""
        self._trial_count = 0
        self._start_time = time.monotonic()
        self._objective = Objective()
        self._running_trials: dict[int, _RunningTrial] = {}
        self._max_running_count = 1
        self._status_counts: dict[str, int] = {}
        self._count_and_seconds: list[float] = [0.0, 0.0]  # completed since the start or resume
        self._best_trial: Trial | None = None
        self._last_refresh_time = 0.0
        self._line_limiters: dict[bool, _LineLimiter] = {True: _LineLimiter("failures"), False: _LineLimiter("trials")}

    @contextmanager
    def show(self) -> Iterator[None]:
        """Shows the sweep until the context exits."""
        if not can_show_live_view():
            yield
            return
        with live_view(self._make_lines) as self._console:
            yield
        self._console = None

    @hookimpl
    def expfw_sweep_started(self, sweep_id: str, folder: Path, trials: int) -> None:
        first, last = journal.read_first_and_last(folder / journal.NAME)
        self._objective = Objective(**first["objective"])
        latest_start = last if "params" in last else first  # a resumed sweep may change `quiet`
        self._is_quiet = bool(latest_start["params"]["quiet"])
        self._start_time = time.monotonic()
        if not self._is_quiet:
            if first["params"]["notice"] is not None:
                self._print_text(first["params"]["notice"])
            self._print_text(
                f"sweep {sweep_id}, {pluralize(trials, 'trial')}, in {run_folders.make_relative_path(folder)}"
            )
            self._label, self._trial_count = f"sweep {sweep_id}", trials

    @hookimpl
    def expfw_trial_started(self, trial: Mapping[str, Any]) -> None:
        started_trial = Trial(**trial)
        if self._trial_count == 1 and not started_trial.swept:  # the count is 0 if quiet
            self._print_text(_NOTHING_SWEPT_HINT)
        self._running_trials[started_trial.number] = _RunningTrial(started_trial)
        self._max_running_count = max(self._max_running_count, len(self._running_trials))

    @hookimpl
    def expfw_trial_ended(self, trial: Mapping[str, Any]) -> None:
        ended_trial = Trial(**trial)
        running_trial = self._running_trials.pop(ended_trial.number, None)
        if running_trial is not None and ended_trial.status in (FINISHED, PRUNED):
            self._count_and_seconds = [
                self._count_and_seconds[0] + 1,
                self._count_and_seconds[1] + running_trial.seconds,
            ]
        if not ended_trial.will_retry:
            self._status_counts[ended_trial.status] = self._status_counts.get(ended_trial.status, 0) + 1
        if ended_trial.status == FINISHED and ended_trial.objective is not None:
            best = None if self._best_trial is None else self._best_trial.objective
            self._best_trial = (
                ended_trial if self._objective.is_better(ended_trial.objective, than=best) else self._best_trial
            )
        self._print_trial(ended_trial, running_trial is not None)

    def _print_trial(self, trial: Trial, was_running: bool) -> None:
        """Prints a failed trial, even if quiet, or a trial that ended since the start or resume without a live view."""
        is_failed = trial.status == FAILED
        is_ended = was_running and trial.status != WAITING  # WAITING: interrupted before it started
        if (is_failed and self._prints_failures) or (is_ended and self._console is None and not self._is_quiet):
            for line in self._line_limiters[is_failed].filter_line(_format_ended_trial(trial)):
                fitted_line = line if self._console is None else fold_first_line(line, self._console.width)
                self._print_text(fitted_line, "red" if is_failed else "")
        for warning in trial.warnings:
            self._print_text(f"expfw: {trial.title}: {warning}", "yellow")

    def _print_text(self, text: str, style: str = "") -> None:
        if self._console is not None:
            self._console.print(text, style=style, soft_wrap=True)
        else:
            print(text, file=sys.stderr)

    @hookimpl
    def expfw_sweep_ended(self) -> None:
        self._label = ""
        for limiter in self._line_limiters.values():
            for line in limiter.summarize_skipped():
                self._print_text(line)

    def _make_lines(self, size: ScreenSize) -> Sequence[Text]:
        if not self._label:
            return []
        running_trials = list(self._running_trials.values())
        max_rows = max(1, size.height - NON_TRIAL_LINES)
        if time.monotonic() - self._last_refresh_time > _REFRESH_SECONDS:
            self._last_refresh_time = time.monotonic()
            for running_trial in running_trials[:max_rows]:
                if running_trial.seconds > _REFRESH_SECONDS:
                    running_trial.progress.read_new_records()
        rows = [running_trial.make_row() for running_trial in running_trials]
        return make_sweep_lines(self._label, self._make_totals(running_trials), rows, self._best_trial, size)

    def _make_totals(self, running_trials: Sequence[_RunningTrial]) -> SweepTotals:
        counts, ended_count = self._status_counts, sum(self._status_counts.values())
        elapsed_seconds = time.monotonic() - self._start_time
        seconds_left = self._estimate_seconds_left(
            running_trials, self._trial_count - ended_count - len(running_trials)
        )
        return SweepTotals(
            self._trial_count,
            ended_count,
            counts.get(FAILED, 0),
            counts.get(PRUNED, 0),
            len(running_trials),
            elapsed_seconds,
            seconds_left,
        )

    def _estimate_seconds_left(self, running_trials: Sequence[_RunningTrial], waiting_count: int) -> float | None:
        """Estimates the seconds until the end from ended trials, or from the progress of the first running ones."""
        count, seconds = self._count_and_seconds
        if count:
            seconds_per_trial = seconds / count
        else:
            measured_trials = [trial for trial in running_trials if (trial.progress.fraction or 0.0) > _MIN_FRACTION]
            if not measured_trials:
                return None
            seconds_per_trial = sum(
                trial.seconds / (trial.progress.fraction or 1.0) for trial in measured_trials
            ) / len(measured_trials)
        trial_seconds = waiting_count * seconds_per_trial + sum(
            max(0.0, seconds_per_trial - trial.seconds) for trial in running_trials
        )
        return trial_seconds / self._max_running_count


def _format_ended_trial(trial: Trial) -> str:
    """Formats an ended trial in one line; a failed trial has a second line with its log."""
    parts = [f"{trial.status:9}", f"trial {trial.number}", *([trial.name] if trial.swept else [])]
    if trial.objective is not None:
        parts.append(f"{trial.objective_metric} {format_number(trial.objective)}")
    if trial.seconds is not None:
        parts.append(f"{trial.seconds:.1f} s")
    if trial.error:
        parts.append(f"{trial.error}; the trial is retried" if trial.will_retry else trial.error)
        if trial.folder is not None:
            return f"{'  '.join(parts)}\n{INDENT}log: {run_folders.make_relative_path(Path(trial.folder) / LOG_FILE)}"
    return "  ".join(parts)


class _LineLimiter:
    """Limits lines: passes the first ones, then one per second.

    Args:
        noun: subject of the lines, in the plural.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._unlimited_lines = _LINES_BEFORE_LIMIT
        self._last_print_time = 0.0
        self._skipped_count = 0

    def filter_line(self, line: str) -> Iterator[str]:
        """Yields the lines to print for this line, if any."""
        now = time.monotonic()
        if self._unlimited_lines <= 0 and now - self._last_print_time < _LINE_INTERVAL_SECONDS:
            self._skipped_count += 1
            return
        yield from self.summarize_skipped()
        self._unlimited_lines, self._last_print_time = self._unlimited_lines - 1, now
        yield line

    def summarize_skipped(self) -> Iterator[str]:
        """Yields a line with the number of skipped lines, if any."""
        if self._skipped_count:
            yield f"          and {self._skipped_count} more {self._noun}"
            self._skipped_count = 0
