"""Follows the journals of trials that run, and asks those that are not promising to give up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expfw.api.run import PRUNE
from expfw.api.settings import Objective
from expfw.errors import JournalError
from expfw.sweeps.search.source import Source
from expfw.system import atomic_files
from expfw.tracking import journal
from expfw.tracking.interrupted import objective_of
from expfw.tracking.ledger import Trial


@dataclass
class _Followed:
    """How far a trial's journal was read, what counts in it, and how many of its evaluations were seen."""

    trial: Trial
    folder: Path
    objective: Objective
    offset: int = 0
    evaluations: int = 0
    asked: bool = False


class Follower:
    """Whatever trains a trial: its journal tells how it does, and a file in its folder asks it to end."""

    def __init__(self, source: Source, objective: Objective) -> None:
        self.source = source
        self.objective = objective
        self._followed: dict[int, _Followed] = {}

    def follow(self, trial: Trial) -> None:
        """A trial is about to start."""
        if self.source.prunes and trial.folder is not None:
            self._followed[trial.number] = _Followed(trial, Path(trial.folder), self.objective)

    def leave(self, trial: Trial) -> None:
        """It has ended; what it said last still counts for the others."""
        if (followed := self._followed.pop(trial.number, None)) is not None:
            self._look_at(followed)

    def look(self) -> None:
        """Reads what is new in all journals."""
        for followed in self._followed.values():
            self._look_at(followed)

    def _look_at(self, followed: _Followed) -> None:
        try:
            records, followed.offset = journal.read(followed.folder / journal.NAME, followed.offset)
        except JournalError:
            return  # it has not begun, or its own process will say what is wrong with it
        followed.objective = objective_of(records, followed.objective)
        metric = followed.objective.metric
        assert followed.trial.configuration is not None
        for record in records:
            if record["kind"] != "metrics" or metric not in record["values"]:
                continue
            followed.evaluations += 1
            value = record["values"][metric]
            if self.source.observe(followed.trial.configuration, followed.evaluations, value) and not followed.asked:
                reason = f"{metric} {value:.4g} at evaluation {followed.evaluations} is not promising"
                atomic_files.write_text(followed.folder / PRUNE, reason)
                followed.asked = True
