"""A sweep while it goes on: on a terminal totals and what runs, elsewhere a line for each trial that ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.run import FAILED, FINISHED, PRUNED
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
"""So many lines of trials are printed as they end; after that one in a second, with the number of the others."""
_NOTHING_SWEPT_HINT = (
    "nothing is swept over: this is one training, as `expfw run` makes it; several values, such as "
    "model.units=32,64, make a sweep"
)
_MIN_FRACTION = 0.05
"""Of a trial: before that its pace tells nothing."""


class _RunningTrial:
    """A trial that runs."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.start_time = time.monotonic()
        self.progress = TrialProgress(Path(trial.folder or ""))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start_time

    def make_row(self) -> RunningTrialRow:
        """What is shown of it."""
        return RunningTrialRow(
            self.trial.number, self.trial.name, self.progress.position, self.progress.metric_text, self.seconds
        )


class SweepLiveView(Plugin):
    """To be registered with the sweep, and entered around it.

    It prints to stderr, so that the result on stdout can be piped. A sweep that is `quiet` tells of failures and
    warnings only. What a trial costs here does not depend on how many there are.

    Args:
        print_failures: whether it tells of trials that failed, too.
    """

    kind = "display"

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
        self._count_and_seconds: list[float] = [0.0, 0.0]  # how many of this life, and their seconds
        self._best_trial: Trial | None = None
        self._last_refresh_time = 0.0
        self._line_limiters: dict[bool, _LineLimiter] = {True: _LineLimiter("failures"), False: _LineLimiter("trials")}

    @contextmanager
    def show(self) -> Iterator[None]:
        """Shows the sweep, until the end of this."""
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
        latest_start = last if "params" in last else first  # a sweep that goes on may have been quiet before
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
        if self._trial_count == 1 and not started_trial.swept:  # which is not known where it is quiet
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
        if not ended_trial.again:
            self._status_counts[ended_trial.status] = self._status_counts.get(ended_trial.status, 0) + 1
        if ended_trial.status == FINISHED and ended_trial.objective is not None:
            best = None if self._best_trial is None else self._best_trial.objective
            self._best_trial = (
                ended_trial if self._objective.is_better(ended_trial.objective, than=best) else self._best_trial
            )
        self._print_trial(ended_trial, running_trial is not None)

    def _print_trial(self, trial: Trial, was_running: bool) -> None:
        """Of a failure, quiet or not; of another end where nothing is drawn that tells of it, if it is of this life."""
        is_failed = trial.status == FAILED
        is_ended = was_running and trial.status != WAITING  # that was interrupted before it began
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
        """Seconds until the end of the sweep, by the trials so far; of the first ones, by how far they are."""
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
    """A trial that has ended, in a line."""
    parts = [f"{trial.status:9}", f"trial {trial.number}", *([trial.name] if trial.swept else [])]
    if trial.objective is not None:
        parts.append(f"{trial.objective_metric} {format_number(trial.objective)}")
    if trial.seconds is not None:
        parts.append(f"{trial.seconds:.1f} s")
    if trial.error:
        parts.append(f"{trial.error}; it is tried again" if trial.again else trial.error)
        if trial.folder is not None:
            return f"{'  '.join(parts)}\n{INDENT}log: {run_folders.make_relative_path(Path(trial.folder) / LOG_FILE)}"
    return "  ".join(parts)


class _LineLimiter:
    """Lines of which the first ones are all printed, and then one in a second, however many there are.

    Args:
        noun: what the lines are about.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._unlimited_lines = _LINES_BEFORE_LIMIT
        self._last_print_time = 0.0
        self._skipped_count = 0

    def filter_line(self, line: str) -> Iterator[str]:
        """What is printed when this line comes."""
        now = time.monotonic()
        if self._unlimited_lines <= 0 and now - self._last_print_time < _LINE_INTERVAL_SECONDS:
            self._skipped_count += 1
            return
        yield from self.summarize_skipped()
        self._unlimited_lines, self._last_print_time = self._unlimited_lines - 1, now
        yield line

    def summarize_skipped(self) -> Iterator[str]:
        """What is printed of those that were left out."""
        if self._skipped_count:
            yield f"          and {self._skipped_count} more {self._noun}"
            self._skipped_count = 0
