"""A sweep as it is now: its trials, those that run with what they have come to so far, as a live table."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expfw import aftermath, folders, report, terminal
from expfw.folders import RUNNING, Entry
from expfw.ledger import WAITING, Ledger, Trial

if TYPE_CHECKING:
    from rich.console import RenderableType

_LOOK_SECONDS = 1.0
_ROOM = 8
"""Lines of the screen for all but the rows of the table."""


def trials(entry: Entry) -> list[Trial]:
    """All trials begun so far."""
    return [_now(trial, entry.status == RUNNING) for trial in Ledger(entry.folder).trials()]


def _now(trial: Trial, goes_on: bool) -> Trial:
    if trial.status != RUNNING or trial.folder is None:
        return trial
    result = aftermath.so_far(Path(trial.folder))
    now = trial.now()
    if result is None and now.status == RUNNING and not goes_on:
        return dataclasses.replace(trial, status=WAITING)  # the sweep is gone, and it had not begun
    if result is None or now.status != RUNNING:
        return now
    kept = ("objective", "objective_metric", "metrics", "seconds")
    return dataclasses.replace(trial, **{name: getattr(result, name) for name in kept})


def counts(entry: Entry, known: Sequence[Trial]) -> str:
    """How many trials have ended, run and failed; and about how long the rest takes."""
    total = entry.first["trials"]
    ended = [trial for trial in known if trial.status not in (WAITING, RUNNING)]
    running = sum(trial.status == RUNNING for trial in known)
    words = [f"{len(ended)} of {total} trials ended"]
    if running:
        words.append(f"{running} running")
    if entry.status == RUNNING and ended and len(ended) < total:
        took = [trial.seconds for trial in ended if trial.seconds]
        left = sum(took) / max(1, len(took)) * (total - len(ended)) / max(1, running)
        words.append(f"about {_span(left)} left")
    return ", ".join(words)


def _span(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def watch(entry: Entry) -> None:
    """Shows the sweep until it has ended, or Ctrl-C; what does not fit the screen is left out, the best are shown."""
    from rich.live import Live

    screen = terminal.screen()
    if not screen.is_terminal:
        return
    with Live(console=screen, transient=True, auto_refresh=False) as live:
        while entry.status == RUNNING:
            live.update(_table(entry, screen.height), refresh=True)
            try:
                time.sleep(_LOOK_SECONDS)
            except KeyboardInterrupt:
                return
            entry = folders.entry(entry.folder)


def _table(entry: Entry, height: int) -> RenderableType:
    known = trials(entry)
    running = [trial for trial in known if trial.status == RUNNING]
    mode = entry.first["objective"]["mode"]
    best = [trial for one in report.ranked(known, mode) for trial in one.trials if trial.status != RUNNING]
    room = max(1, height - _ROOM - len(running))
    title = f"sweep {entry.id}  {entry.status}  {counts(entry, known)}"
    return report.table([*running, *best[:room]], mode, title)
