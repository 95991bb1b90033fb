"""Monitor that follows the journal of a running trial and prunes the trial if it is not promising."""

from __future__ import annotations

from pathlib import Path

from expfw.api.run import PRUNE_FILE
from expfw.api.run_config import Objective
from expfw.sweeps.search.configuration_source import Source
from expfw.system import atomic_files
from expfw.tracking import journal


class PruningMonitor:
    """Reads the journal of a running trial and prunes the trial by a file in its run folder.

    This works for every runner, because it needs only the files of the trial.
    """

    def __init__(self, source: Source, configuration: int, folder: Path, objective: Objective) -> None:
        self.source, self.configuration, self.folder, self._objective = source, configuration, folder, objective
        self._journal_tail = journal.JournalTail(folder / journal.NAME)
        self._evaluation_count = 0

    def check(self) -> None:
        """Reports the new evaluations in the journal to the source."""
        for record in self._journal_tail.read_new():
            if record["kind"] == "dataset":
                self._objective = self._objective.for_splits(record["samples"])
            metric = self._objective.metric
            if record["kind"] != "metrics" or metric not in record["values"]:
                continue
            self._evaluation_count += 1
            value, evaluation = record["values"][metric], self._evaluation_count
            prune_file = self.folder / PRUNE_FILE
            if self.source.observe(self.configuration, evaluation, value) and not prune_file.exists():
                atomic_files.write_text(prune_file, f"{metric} {value:.4g} at evaluation {evaluation} is not promising")
