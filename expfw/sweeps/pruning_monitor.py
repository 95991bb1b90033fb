"""Monitor that follows the journals of running trials and prunes those that are not promising."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expfw.api.run import PRUNE_FILE
from expfw.api.run_config import Objective
from expfw.sweeps.search.configuration_source import Source
from expfw.system import atomic_files
from expfw.tracking import journal
from expfw.tracking.ledger import Trial


@dataclass
class _RunningTrial:
    """A trial: the position in its journal, its objective with the resolved metric, and the evaluations so far."""

    configuration: int
    journal_tail: journal.JournalTail
    objective: Objective
    evaluation_count: int = 0
    is_pruned: bool = False


class PruningMonitor:
    """Reads the journals of running trials and prunes a trial by a file in its run folder.

    This works for every runner, because it needs only the files of the trial.
    """

    def __init__(self, source: Source, objective: Objective) -> None:
        self.source, self.objective = source, objective
        self._running_trials: dict[int, _RunningTrial] = {}

    def add_trial(self, trial: Trial) -> None:
        """Adds a trial that is about to start."""
        if self.source.can_prune and trial.folder is not None and trial.configuration is not None:
            journal_tail = journal.JournalTail(Path(trial.folder) / journal.NAME)
            self._running_trials[trial.number] = _RunningTrial(trial.configuration, journal_tail, self.objective)

    def remove_trial(self, trial: Trial) -> None:
        """Removes a trial that has ended; its last evaluations are still reported to the source."""
        if (running_trial := self._running_trials.pop(trial.number, None)) is not None:
            self._check_trial(running_trial)

    def check_trials(self) -> None:
        """Reads the new records of all journals."""
        for running_trial in self._running_trials.values():
            self._check_trial(running_trial)

    def _check_trial(self, trial: _RunningTrial) -> None:
        for record in trial.journal_tail.read_new():
            if record["kind"] == "dataset":
                trial.objective = trial.objective.for_splits(record["samples"])
            metric = trial.objective.metric
            if record["kind"] != "metrics" or metric not in record["values"]:
                continue
            trial.evaluation_count += 1
            value, evaluation = record["values"][metric], trial.evaluation_count
            if self.source.observe(trial.configuration, evaluation, value) and not trial.is_pruned:
                reason = f"{metric} {value:.4g} at evaluation {evaluation} is not promising"
                atomic_files.write_text(trial.journal_tail.path.parent / PRUNE_FILE, reason)
                trial.is_pruned = True
