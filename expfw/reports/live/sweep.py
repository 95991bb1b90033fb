"""Live view of a sweep: totals and running trials on a terminal, a line for each ended trial elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expfw.api.contracts import Plugin, hookimpl
from expfw.api.result import FAILED, FINISHED, PRUNED
from expfw.api.run_config import Objective
from expfw.reports.live.live_region import live_view
from expfw.reports.live.sweep_status import RunningTrial, SweepProgress
from expfw.system.formatting import format_number, pluralize
from expfw.tracking import run_folders
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.recorded_run import read_run

_LINES_BEFORE_LIMIT, _LINE_INTERVAL_SECONDS = 50, 1.0
"""The first 50 lines of ended trials are all printed; then one per second, with the number of skipped lines."""
_NOTHING_SWEPT_HINT = (
    "no swept parameters: this sweep trains once, as `expfw run` does; to sweep, list several values, such as "
    "model.units=32,64"
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
        self._is_live = False
        self._is_quiet = False
        self._progress = SweepProgress("", 0)
        self._objective = Objective()
        self._line_count, self._skipped_count, self._last_line_time = 0, 0, 0.0

    @contextmanager
    def show(self) -> Iterator[None]:
        """Shows the sweep until the context exits."""
        with live_view(lambda: self._progress if self._progress.name else "") as self._is_live:
            yield

    @hookimpl
    def expfw_sweep_started(self, sweep_id: str, folder: Path, trials: int) -> None:
        start = read_run(folder).starts[-1]
        self._objective = Objective(**start["objective"])
        self._is_quiet = bool(start["params"]["quiet"])
        if not self._is_quiet:
            if start["params"]["notice"] is not None:
                print(start["params"]["notice"], file=sys.stderr)
            relative_folder = run_folders.make_relative_path(folder)
            print(f"sweep {sweep_id}, {pluralize(trials, 'trial')}, in {relative_folder}", file=sys.stderr)
            self._progress = SweepProgress(f"sweep {sweep_id}", trials)

    @hookimpl
    def expfw_trial_started(self, trial: Mapping[str, Any]) -> None:
        started_trial = Trial(**trial)
        if self._progress.trial_count == 1 and not started_trial.swept:  # the count is 0 if quiet
            print(_NOTHING_SWEPT_HINT, file=sys.stderr)
        self._progress.running_trials[started_trial.number] = RunningTrial(started_trial, time.time())

    @hookimpl
    def expfw_trial_ended(self, trial: Mapping[str, Any]) -> None:
        ended_trial = Trial(**trial)
        running_trial = self._progress.running_trials.pop(ended_trial.number, None)
        if running_trial is not None and ended_trial.status in (FINISHED, PRUNED):
            self._progress.ended_seconds.append(running_trial.seconds)
        self._progress.add_ended(ended_trial)
        if ended_trial.status == FINISHED and ended_trial.objective is not None:
            best = None if self._progress.best_trial is None else self._progress.best_trial.objective
            if self._objective.is_better(ended_trial.objective, than=best):
                self._progress.best_trial = ended_trial
        if ended_trial.status == FAILED:
            if self._prints_failures:
                print(_format_ended_trial(ended_trial), file=sys.stderr)
        # Without a live view, trials that ended since the start or resume; WAITING: interrupted before it started.
        elif running_trial is not None and ended_trial.status != WAITING and not (self._is_live or self._is_quiet):
            self._print_limited(_format_ended_trial(ended_trial))
        for warning in ended_trial.warnings:
            print(f"expfw: {ended_trial.title}: {warning}", file=sys.stderr)

    def _print_limited(self, line: str) -> None:
        now = time.monotonic()
        if self._line_count >= _LINES_BEFORE_LIMIT and now - self._last_line_time < _LINE_INTERVAL_SECONDS:
            self._skipped_count += 1
            return
        self._print_skipped_count()
        self._line_count, self._last_line_time = self._line_count + 1, now
        print(line, file=sys.stderr)

    def _print_skipped_count(self) -> None:
        if self._skipped_count:
            print(f"          and {self._skipped_count} more trials", file=sys.stderr)
            self._skipped_count = 0

    @hookimpl
    def expfw_sweep_ended(self) -> None:
        self._progress.name = ""
        self._print_skipped_count()


def _format_ended_trial(trial: Trial) -> str:
    """Formats an ended trial in one line; a failed trial has a second line with its log."""
    parts = [f"{trial.status:9}", f"trial {trial.number}", *([trial.name] if trial.swept else [])]
    if trial.objective is not None:
        parts.append(f"{trial.objective_metric} {format_number(trial.objective)}")
    if trial.seconds is not None:
        parts.append(f"{trial.seconds:.1f} s")
    if trial.error:
        parts.append(f"{trial.error}; the trial is retried" if trial.will_retry else trial.error)
    line = "  ".join(parts)
    if not trial.error or trial.folder is None:
        return line
    return f"{line}\n           log: {run_folders.make_relative_path(Path(trial.folder) / run_folders.LOG_FILE)}"
