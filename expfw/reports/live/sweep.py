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
from expfw.api.settings import Objective
from expfw.reports.live.lines import INDENT, Room, folded
from expfw.reports.live.live import is_live, live
from expfw.reports.live.sweep_lines import OTHER_LINES, Row, Totals, sweep_lines
from expfw.reports.live.trial_progress import TrialReading
from expfw.system.formatting import many, number
from expfw.tracking import journal, run_folders
from expfw.tracking.ledger import WAITING, Trial
from expfw.tracking.run_folders import LOG

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_LOOK_SECONDS = 1.0
_FEW, _PLAIN_SECONDS = 50, 1.0
"""So many lines of trials are printed as they end; after that one in a second, with the number of the others."""
_NOTHING_SWEPT = (
    "nothing is swept over: this is one training, as `expfw run` makes it; several values, such as "
    "model.units=32,64, make a sweep"
)
_WORTH_A_GUESS = 0.05
"""Of a trial: before that its pace tells nothing."""


class _Running:
    """A trial that runs."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.began = time.monotonic()
        self.reading = TrialReading(Path(trial.folder or ""))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def row(self) -> Row:
        """What is shown of it."""
        return Row(self.trial.number, self.trial.name, self.reading.place, self.reading.value, self.seconds)


class SweepDisplay(Plugin):
    """To be registered with the sweep, and entered around it.

    It prints to stderr, so that the result on stdout can be piped. A sweep that is `quiet` tells of failures and
    warnings only. What a trial costs here does not depend on how many there are.

    Args:
        failures: whether it tells of trials that failed, too.
    """

    kind = "display"

    def __init__(self, failures: bool = True) -> None:
        super().__init__(config=None, name="progress")
        self._failures = failures
        self._console: Console | None = None
        self._quiet = False
        self._name = ""
        self._total = 0
        self._began = time.monotonic()
        self._objective = Objective()
        self._running: dict[int, _Running] = {}
        self._most_running = 1
        self._counts: dict[str, int] = {}
        self._took: list[float] = [0.0, 0.0]  # how many of this life, and their seconds
        self._best: Trial | None = None
        self._looked = 0.0
        self._lines: dict[bool, _Thinned] = {True: _Thinned("failures"), False: _Thinned("trials")}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the sweep, until the end of this."""
        if not is_live():
            yield
            return
        with live(self._drawn) as self._console:
            yield
        self._console = None

    @hookimpl
    def expfw_sweep_started(self, sweep_id: str, folder: Path, trials: int) -> None:
        first, last = journal.first_and_last(folder / journal.NAME)
        self._objective = Objective(**first["objective"])
        now = last if "params" in last else first  # a sweep that goes on may have been quiet before
        self._quiet = bool(now["params"]["quiet"])
        self._began = time.monotonic()
        if not self._quiet:
            if first["params"]["notice"] is not None:
                self._print(first["params"]["notice"])
            self._print(f"sweep {sweep_id}, {many(trials, 'trial')}, in {run_folders.relative(folder)}")
            self._name, self._total = f"sweep {sweep_id}", trials

    @hookimpl
    def expfw_trial_started(self, trial: Mapping[str, Any]) -> None:
        one = Trial(**trial)
        if self._total == 1 and not one.swept:  # which is not known where it is quiet
            self._print(_NOTHING_SWEPT)
        self._running[one.number] = _Running(one)
        self._most_running = max(self._most_running, len(self._running))

    @hookimpl
    def expfw_trial_ended(self, trial: Mapping[str, Any]) -> None:
        one = Trial(**trial)
        ran = self._running.pop(one.number, None)
        if ran is not None and one.status in (FINISHED, PRUNED):
            self._took = [self._took[0] + 1, self._took[1] + ran.seconds]
        if not one.again:
            self._counts[one.status] = self._counts.get(one.status, 0) + 1
        if one.status == FINISHED and one.objective is not None:
            best = None if self._best is None else self._best.objective
            self._best = one if self._objective.better(one.objective, than=best) else self._best
        self._tell(one, ran is not None)

    def _tell(self, one: Trial, ran: bool) -> None:
        """Of a failure, quiet or not; of another end where nothing is drawn that tells of it, if it is of this life."""
        failed = one.status == FAILED
        ended = ran and one.status != WAITING  # that was interrupted before it began
        if (failed and self._failures) or (ended and self._console is None and not self._quiet):
            for line in self._lines[failed].passed(_ended(one)):
                fitted = line if self._console is None else folded(line, self._console.width)
                self._print(fitted, "red" if failed else "")
        for warning in one.warnings:
            self._print(f"expfw: {one.title}: {warning}", "yellow")

    def _print(self, text: str, style: str = "") -> None:
        if self._console is not None:
            self._console.print(text, style=style, soft_wrap=True)
        else:
            print(text, file=sys.stderr)

    @hookimpl
    def expfw_sweep_ended(self) -> None:
        self._name = ""
        for thinned in self._lines.values():
            for line in thinned.rest():
                self._print(line)

    def _drawn(self, room: Room) -> Sequence[Text]:
        if not self._name:
            return []
        running = list(self._running.values())
        most = max(1, room.height - OTHER_LINES)
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            for one in running[:most]:
                if one.seconds > _LOOK_SECONDS:
                    one.reading.look()
        rows = [one.row() for one in running]
        return sweep_lines(self._name, self._totals(running), rows, self._best, room)

    def _totals(self, running: Sequence[_Running]) -> Totals:
        counts, ended = self._counts, sum(self._counts.values())
        elapsed = time.monotonic() - self._began
        left = self._left(running, self._total - ended - len(running))
        return Totals(self._total, ended, counts.get(FAILED, 0), counts.get(PRUNED, 0), len(running), elapsed, left)

    def _left(self, running: Sequence[_Running], waiting: int) -> float | None:
        """Seconds until the end of the sweep, by the trials so far; of the first ones, by how far they are."""
        count, seconds = self._took
        if count:
            each = seconds / count
        else:
            ahead = [one for one in running if (one.reading.fraction or 0.0) > _WORTH_A_GUESS]
            if not ahead:
                return None
            each = sum(one.seconds / (one.reading.fraction or 1.0) for one in ahead) / len(ahead)
        rest = waiting * each + sum(max(0.0, each - one.seconds) for one in running)
        return rest / self._most_running


def _ended(one: Trial) -> str:
    """A trial that has ended, in a line."""
    words = [f"{one.status:9}", f"trial {one.number}", *([one.name] if one.swept else [])]
    if one.objective is not None:
        words.append(f"{one.objective_metric} {number(one.objective)}")
    if one.seconds is not None:
        words.append(f"{one.seconds:.1f} s")
    if one.error:
        words.append(f"{one.error}; it is tried again" if one.again else one.error)
        if one.folder is not None:
            return f"{'  '.join(words)}\n{INDENT}log: {run_folders.relative(Path(one.folder) / LOG)}"
    return "  ".join(words)


class _Thinned:
    """Lines of which the first ones are all printed, and then one in a second, however many there are.

    Args:
        what: is in the lines.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._few = _FEW
        self._printed = 0.0
        self._left_out = 0

    def passed(self, line: str) -> Iterator[str]:
        """What is printed when this line comes."""
        now = time.monotonic()
        if self._few <= 0 and now - self._printed < _PLAIN_SECONDS:
            self._left_out += 1
            return
        yield from self.rest()
        self._few, self._printed = self._few - 1, now
        yield line

    def rest(self) -> Iterator[str]:
        """What is printed of those that were left out."""
        if self._left_out:
            yield f"          and {self._left_out} more {self._what}"
            self._left_out = 0
