"""Current state of a sweep: its trials, with intermediate results of running ones, as a live table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.api.result import FAILED, PRUNED
from expfw.reports import tables
from expfw.reports.console import make_console
from expfw.reports.live.lines import ScreenSize, format_clock
from expfw.reports.live.sweep_lines import NON_TRIAL_LINES, RunningTrialRow, SweepTotals, make_sweep_lines
from expfw.reports.live.trial_progress import TrialProgress
from expfw.system import formatting
from expfw.tracking import ranking, run_index, unfinished_run
from expfw.tracking.ledger import WAITING, Ledger, Trial
from expfw.tracking.run_index import RUNNING, IndexEntry

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_REFRESH_SECONDS = 1.0
_TABLE_FRAME_LINES = 6
"""Lines of the table of best trials that are not rows."""


def read_trials(entry: IndexEntry) -> list[Trial]:
    """Reads all trials that have started."""
    return [_update_trial(trial, entry.status == RUNNING) for trial in Ledger(entry.folder).read_trials()]


def get_seed_count(entry: IndexEntry) -> int:
    """Returns the planned seeds of each configuration of a sweep."""
    return int(entry.first.get("params", {}).get("sweep.seeds", 1))


def _update_trial(trial: Trial, is_sweep_running: bool) -> Trial:
    if trial.status != RUNNING or trial.folder is None:
        return trial
    result = unfinished_run.read_unfinished_result(Path(trial.folder))
    current_trial = trial.read_current_state()
    if result is None and current_trial.status == RUNNING and not is_sweep_running:
        # The sweep is not running, and the trial had not started.
        return dataclasses.replace(trial, status=WAITING, run_id=None, folder=None)
    if result is None or current_trial.status != RUNNING:
        return current_trial
    copied_fields = ("objective", "objective_metric", "metrics", "seconds")
    return dataclasses.replace(trial, **{name: getattr(result, name) for name in copied_fields})


def format_counts(entry: IndexEntry, trials: Sequence[Trial]) -> str:
    """Formats the number of ended and running trials, and the estimated remaining time."""
    trial_count = entry.first["trials"]
    ended_trials = [trial for trial in trials if trial.status not in (WAITING, RUNNING)]
    running_count = sum(trial.status == RUNNING for trial in trials)
    parts = [f"{len(ended_trials)} of {formatting.pluralize(trial_count, 'trial')} ended"]
    if running_count:
        parts.append(f"{running_count} running")
    if (seconds_left := _estimate_seconds_left(entry, trials)) is not None:
        parts.append(f"about {format_clock(seconds_left)} left")
    return ", ".join(parts)


def _estimate_seconds_left(entry: IndexEntry, trials: Sequence[Trial]) -> float | None:
    """Estimates the seconds until the end from the durations of ended trials; None if unknown."""
    ended_trials = [trial for trial in trials if trial.status not in (WAITING, RUNNING)]
    durations = [trial.seconds for trial in ended_trials if trial.seconds]
    trials_left = entry.first["trials"] - len(ended_trials)
    if entry.status != RUNNING or not durations or not trials_left:
        return None
    return float(
        sum(durations) / len(durations) * trials_left / max(1, sum(trial.status == RUNNING for trial in trials))
    )


def watch_sweep(entry: IndexEntry) -> None:
    """Shows the sweep until it ends or you press Ctrl-C; if not all trials fit the console, shows the best ones."""
    from rich.live import Live

    console = make_console()
    if not console.is_terminal or console.is_dumb_terminal:
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        console.show_cursor(True)  # keeps the terminal usable if the process is killed
        while entry.status == RUNNING:
            live.update(_render_sweep(entry, console), refresh=True)
            try:
                time.sleep(_REFRESH_SECONDS)
            except KeyboardInterrupt:
                return
            entry = run_index.read_entry(entry.folder)


def _render_sweep(entry: IndexEntry, console: Console) -> RenderableType:
    """Renders the live view of a sweep, with the best trials below it."""
    from rich.console import Group

    trials = read_trials(entry)
    running_trials = [trial for trial in trials if trial.status == RUNNING]
    mode = entry.first["objective"]["mode"]
    ended_trials = [
        trial
        for group in ranking.rank_seed_groups(trials, mode)
        for trial in group.trials
        if trial not in running_trials
    ]
    size = ScreenSize(
        console.width - 1, max(NON_TRIAL_LINES + 1, console.height // 2), console.encoding.startswith("utf")
    )
    lines = make_sweep_lines(
        f"sweep {entry.id}",
        _make_totals(entry, trials),
        [_make_row(trial) for trial in running_trials],
        ranking.find_best_trial(trials, mode),
        size,
    )
    max_rows = console.height - len(lines) - _TABLE_FRAME_LINES
    if not ended_trials or max_rows <= 0:
        return Group(*lines)
    return Group(*lines, tables.make_trials_table(ended_trials[:max_rows], mode, console.width, get_seed_count(entry)))


def _make_row(trial: Trial) -> RunningTrialRow:
    progress = TrialProgress(Path(trial.folder or ""))
    progress.read_new_records()
    return RunningTrialRow(trial.number, trial.name, progress.position, progress.metric_text, trial.seconds or 0.0)


def _make_totals(entry: IndexEntry, trials: Sequence[Trial]) -> SweepTotals:
    counts = {status: sum(trial.status == status for trial in trials) for status in (RUNNING, WAITING, FAILED, PRUNED)}
    ended_count = len(trials) - counts[RUNNING] - counts[WAITING]
    start_time = float(entry.first["time"])
    return SweepTotals(
        entry.first["trials"],
        ended_count,
        counts[FAILED],
        counts[PRUNED],
        counts[RUNNING],
        max(0.0, time.time() - start_time),
        _estimate_seconds_left(entry, trials),
    )
