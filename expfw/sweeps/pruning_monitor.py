"""Monitor that follows the journals of running trials and prunes those that are not promising."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expfw.api.run import PRUNE_FILE
from expfw.api.run_config import Objective
from expfw.errors import JournalError
from expfw.sweeps.search.configuration_source import Source
from expfw.system import atomic_files
from expfw.tracking import journal
from expfw.tracking.ledger import Trial
from expfw.tracking.unfinished_run import resolve_objective


@dataclass
class _RunningTrial:
    """A trial and the position in its journal.

    Attributes:
        trial: monitored trial.
        folder: run folder of the trial.
        objective: objective, with its resolved metric.
        offset: position in the journal up to which it was read.
        evaluation_count: number of evaluations read so far.
        stop_requested: whether the prune file was written.
    """

    trial: Trial
    folder: Path
    objective: Objective
    offset: int = 0
    evaluation_count: int = 0
    stop_requested: bool = False


class PruningMonitor:
    """Reads the journals of running trials and prunes a trial by a file in its run folder.

    This works for every runner, because it needs only the files of the trial.
    """

    def __init__(self, source: Source, objective: Objective) -> None:
        self.source = source
        self.objective = objective
        self._running_trials: dict[int, _RunningTrial] = {}

    def add_trial(self, trial: Trial) -> None:
        """Adds a trial that is about to start."""
        if self.source.can_prune and trial.folder is not None:
            self._running_trials[trial.number] = _RunningTrial(trial, Path(trial.folder), self.objective)

    def remove_trial(self, trial: Trial) -> None:
        """Removes a trial that has ended; its last evaluations are still reported to the source."""
        if (running_trial := self._running_trials.pop(trial.number, None)) is not None:
            self._check_trial(running_trial)

    def check_trials(self) -> None:
        """Reads the new records of all journals."""
        for running_trial in self._running_trials.values():
            self._check_trial(running_trial)

    def _check_trial(self, running_trial: _RunningTrial) -> None:
        try:
            records, running_trial.offset = journal.read_records(
                running_trial.folder / journal.NAME, running_trial.offset
            )
        except JournalError:
            return  # the trial has not begun, or its own process reports the error
        running_trial.objective = resolve_objective(records, running_trial.objective)
        metric = running_trial.objective.metric
        assert running_trial.trial.configuration is not None
        for record in records:
            if record["kind"] != "metrics" or metric not in record["values"]:
                continue
            running_trial.evaluation_count += 1
            value = record["values"][metric]
            if (
                self.source.observe(running_trial.trial.configuration, running_trial.evaluation_count, value)
                and not running_trial.stop_requested
            ):
                reason = f"{metric} {value:.4g} at evaluation {running_trial.evaluation_count} is not promising"
                atomic_files.write_text(running_trial.folder / PRUNE_FILE, reason)
                running_trial.stop_requested = True
