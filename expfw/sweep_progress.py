"""What people see while a sweep goes on: a line for each trial that ended, on a terminal a bar below them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expfw.api import Plugin, hookimpl
from expfw.ledger import Trial
from expfw.run_state import FAILED
from expfw.terminal import number, screen


class SweepProgress(Plugin):
    """Prints to stderr, so that the result on stdout can be piped."""

    kind = "display"

    def __init__(self) -> None:
        super().__init__(config=None, name="progress")
        self._console: Any = None
        self._live: Any = None
        self._task: Any = None

    @hookimpl
    def expfw_sweep_started(self, sweep_id: str, folder: Path, trials: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = screen(stderr=True)
        self._console.print(f"sweep {sweep_id}, {trials} trials, in {folder}")
        if self._console.is_terminal:
            columns = [TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)]
            self._live = Progress(*columns, console=self._console, transient=True)
            self._live.start()
            self._task = self._live.add_task("", total=trials)

    @hookimpl
    def expfw_trial_ended(self, trial: Mapping[str, Any]) -> None:
        one = Trial(**trial)
        words = [f"{one.status:9}", f"trial {one.number}", one.name]
        if one.objective is not None:
            words.append(f"{one.objective_metric} {number(one.objective)}")
        if one.seconds is not None:
            words.append(f"{one.seconds:.1f} s")
        if one.error:
            words.append(f"{one.error}; it is tried again" if one.again else one.error)
        self._console.print("  ".join(words), style="red" if one.status == FAILED else None)
        for line in one.warnings:
            self._console.print(f"           expfw: {line}", style="yellow")
        if self._live is not None and not one.again:
            self._live.advance(self._task)

    @hookimpl
    def expfw_sweep_ended(self) -> None:
        if self._live is not None:
            self._live.stop()
