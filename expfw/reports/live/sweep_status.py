"""A sweep as it is now: its trials, those that run with what they have come to so far, as a live table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.api.run import FAILED, PRUNED
from expfw.reports import console, tables
from expfw.reports.live.lines import Room, clock
from expfw.reports.live.sweep_lines import OTHER_LINES, Row, Totals, sweep_lines
from expfw.reports.live.trial_progress import TrialReading
from expfw.system import formatting
from expfw.tracking import interrupted, ranking, run_index
from expfw.tracking.ledger import WAITING, Ledger, Trial
from expfw.tracking.run_index import RUNNING, Entry

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LOOK_SECONDS = 1.0
_ROOM = 6
"""Lines of the screen for all of the table of the best but its rows."""


def trials(entry: Entry) -> list[Trial]:
    """All trials begun so far."""
    return [_now(trial, entry.status == RUNNING) for trial in Ledger(entry.folder).trials()]


def seeds(entry: Entry) -> int:
    """How many seeds each configuration of a sweep is tried with."""
    return int(entry.first.get("params", {}).get("sweep.seeds", 1))


def _now(trial: Trial, goes_on: bool) -> Trial:
    if trial.status != RUNNING or trial.folder is None:
        return trial
    result = interrupted.so_far(Path(trial.folder))
    now = trial.now()
    if result is None and now.status == RUNNING and not goes_on:
        # The sweep is gone, and it had not begun.
        return dataclasses.replace(trial, status=WAITING, run_id=None, folder=None)
    if result is None or now.status != RUNNING:
        return now
    kept = ("objective", "objective_metric", "metrics", "seconds")
    return dataclasses.replace(trial, **{name: getattr(result, name) for name in kept})


def counts(entry: Entry, known: Sequence[Trial]) -> str:
    """How many trials have ended, run and failed; and about how long the rest takes."""
    total = entry.first["trials"]
    ended = [trial for trial in known if trial.status not in (WAITING, RUNNING)]
    running = sum(trial.status == RUNNING for trial in known)
    words = [f"{len(ended)} of {formatting.many(total, 'trial')} ended"]
    if running:
        words.append(f"{running} running")
    if (left := _left(entry, known)) is not None:
        words.append(f"about {clock(left)} left")
    return ", ".join(words)


def _left(entry: Entry, known: Sequence[Trial]) -> float | None:
    """Seconds until the end, by what the trials took so far; None where nobody knows."""
    ended = [trial for trial in known if trial.status not in (WAITING, RUNNING)]
    took = [trial.seconds for trial in ended if trial.seconds]
    left = entry.first["trials"] - len(ended)
    if entry.status != RUNNING or not took or not left:
        return None
    return float(sum(took) / len(took) * left / max(1, sum(trial.status == RUNNING for trial in known)))


def watch(entry: Entry) -> None:
    """Shows the sweep until it has ended, or Ctrl-C; what does not fit the screen is left out, the best are shown."""
    from rich.live import Live

    screen = console.screen()
    if not screen.is_terminal or screen.is_dumb_terminal:
        return
    with Live(console=screen, transient=True, auto_refresh=False) as live:
        screen.show_cursor(True)  # whatever ends us, the terminal is as it was
        while entry.status == RUNNING:
            live.update(_drawn(entry, screen), refresh=True)
            try:
                time.sleep(_LOOK_SECONDS)
            except KeyboardInterrupt:
                return
            entry = run_index.entry(entry.folder)


def _drawn(entry: Entry, screen: Console) -> RenderableType:
    """What a sweep itself shows, and the best trials below it."""
    from rich.console import Group

    known = trials(entry)
    running = [trial for trial in known if trial.status == RUNNING]
    mode = entry.first["objective"]["mode"]
    ended = [trial for one in ranking.ranked(known, mode) for trial in one.trials if trial not in running]
    room = Room(screen.width - 1, max(OTHER_LINES + 1, screen.height // 2), screen.encoding.startswith("utf"))
    lines = sweep_lines(
        f"sweep {entry.id}", _totals(entry, known), [_row(trial) for trial in running], ranking.best(known, mode), room
    )
    most = screen.height - len(lines) - _ROOM
    if not ended or most <= 0:
        return Group(*lines)
    return Group(*lines, tables.table(ended[:most], mode, screen.width, seeds(entry)))


def _row(trial: Trial) -> Row:
    reading = TrialReading(Path(trial.folder or ""))
    reading.look()
    return Row(trial.number, trial.name, reading.place, reading.value, trial.seconds or 0.0)


def _totals(entry: Entry, known: Sequence[Trial]) -> Totals:
    counted = {status: sum(trial.status == status for trial in known) for status in (RUNNING, WAITING, FAILED, PRUNED)}
    ended = len(known) - counted[RUNNING] - counted[WAITING]
    began = float(entry.first["time"])
    return Totals(
        entry.first["trials"],
        ended,
        counted[FAILED],
        counted[PRUNED],
        counted[RUNNING],
        max(0.0, time.time() - began),
        _left(entry, known),
    )
