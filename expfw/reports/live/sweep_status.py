"""Current state of a sweep: its trials, with intermediate results of running ones, as a live table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from expfw.errors import JournalError
from expfw.reports.console import make_console
from expfw.reports.live.live_region import format_clock
from expfw.reports.live.sweep_progress import OTHER_LINES, RunningTrial, SweepProgress
from expfw.reports.sweep_summary import make_trials_table
from expfw.system.formatting import pluralize
from expfw.tracking import ranking
from expfw.tracking.ledger import WAITING, Ledger, Trial
from expfw.tracking.recorded_run import RUNNING, RecordedRun, read_run

_REFRESH_SECONDS = 1.0
_TABLE_FRAME_LINES = 6
"""Lines of the table of best trials that are not rows."""


def read_trials(sweep: RecordedRun) -> list[Trial]:
    """Reads all trials that have started."""
    return [_update_trial(trial, sweep.status == RUNNING) for trial in Ledger(sweep.folder).read_trials()]


def get_seed_count(sweep: RecordedRun) -> int:
    """Returns the planned seeds of each configuration of a sweep."""
    return int(sweep.first.get("params", {}).get("sweep.seeds", 1))


def _update_trial(trial: Trial, is_sweep_running: bool) -> Trial:
    current_trial = trial.read_current_state() if trial.status == RUNNING else trial
    if current_trial.status != RUNNING or trial.folder is None:
        return current_trial
    try:
        result = read_run(Path(trial.folder)).result
    except JournalError:  # the trial had not started
        return trial if is_sweep_running else replace(trial, status=WAITING, run_id=None, folder=None)
    copied_fields = ("objective", "objective_metric", "metrics", "seconds")
    return replace(trial, **{name: getattr(result, name) for name in copied_fields})


def make_progress(
    sweep: RecordedRun, trials: Sequence[Trial], running_trials: dict[int, RunningTrial]
) -> SweepProgress:
    """Returns the progress of a sweep.

    Args:
        sweep: the sweep.
        trials: trials that have started.
        running_trials: the running trials, by number; changed to those that run now.
    """
    for trial in trials:
        if trial.status == RUNNING:
            running_trials.setdefault(trial.number, RunningTrial(trial, time.time() - (trial.seconds or 0.0)))
        else:
            running_trials.pop(trial.number, None)
    ended_trials = [trial for trial in trials if trial.status not in (WAITING, RUNNING)]
    return SweepProgress(
        f"sweep {sweep.id}",
        sweep.first["trials"],
        Counter(trial.status for trial in ended_trials),
        list(running_trials.values()),
        [trial.seconds for trial in ended_trials if trial.seconds],
        time.time() - float(sweep.first["time"]),
        ranking.find_best_trial(trials, sweep.first["objective"]["mode"]),
    )


def format_counts(sweep: RecordedRun, trials: Sequence[Trial]) -> str:
    """Formats the number of ended and running trials, and the estimated remaining time."""
    progress = make_progress(sweep, trials, {})
    parts = [f"{progress.ended_count} of {pluralize(progress.trial_count, 'trial')} ended"]
    if progress.running_trials:
        parts.append(f"{len(progress.running_trials)} running")
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
    running_trials: dict[int, RunningTrial] = {}
    mode = sweep.first["objective"]["mode"]
    with Live(console=console, transient=True, auto_refresh=False) as live:
        console.show_cursor(True)  # keeps the terminal usable if the process is killed
        while sweep.status == RUNNING:
            trials = read_trials(sweep)
            progress = make_progress(sweep, trials, running_trials)
            groups = ranking.rank_seed_groups([trial for trial in trials if trial.status != RUNNING], mode)
            max_rows = console.height - OTHER_LINES - len(running_trials) - _TABLE_FRAME_LINES
            table = make_trials_table(groups[: max(0, max_rows)], get_seed_count(sweep))
            live.update(Group(progress, table) if table.rows else progress, refresh=True)
            try:
                time.sleep(_REFRESH_SECONDS)
            except KeyboardInterrupt:
                return
            sweep = read_run(sweep.folder)
