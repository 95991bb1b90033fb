"""Selection of the runs and sweeps to delete."""

from __future__ import annotations

import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expfw.api import checkpoints
from expfw.api.result import FINISHED, PRUNED
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ranking import make_sort_key
from expfw.tracking.recorded_run import DAMAGED, RUNNING, RecordedRun

_ID = re.compile(r"-([a-z0-9]{8})(?=/|$)")


@dataclass(frozen=True, eq=False)
class Removal:
    """A run or sweep to delete.

    Attributes:
        recorded: the run, or the sweep with all its trials.
        path: folder to delete: the run folder, or the checkpoints in it.
        trials: trials of the sweep, if `recorded` is a sweep.
        sweep: remaining sweep that lists the run; None if the run is not a trial.
        size_bytes: size on disk.
    """

    recorded: RecordedRun
    path: Path
    trials: Sequence[RecordedRun]
    sweep: RecordedRun | None
    size_bytes: int

    @property
    def is_whole_folder(self) -> bool:
        """Whether the whole folder is deleted, not only checkpoints."""
        return self.path == self.recorded.folder


@dataclass
class Selection:
    """The runs and sweeps of a runs folder that match all given rules.

    Attributes:
        runs_dir: the runs folder.
        ids: IDs of runs and sweeps, or their first characters; a sweep selects all its trials.
        keep_best: number of best runs to keep in each sweep and each group of comparable single runs.
        minimum_age: seconds since the last record.
        statuses: selected statuses, in small letters.
        checkpoints_only: whether to delete only the checkpoints of finished and pruned runs.
        all_recorded: all runs, sweeps and folders without a readable journal, newest first.
        spare_reasons: reason why a matching run is not deleted, by ID.
        removals: runs and sweeps to delete; none without a rule.

    Raises:
        NotFoundError: if an ID matches none or several.
    """

    runs_dir: Path
    ids: Sequence[str] = ()
    keep_best: int | None = None
    minimum_age: float | None = None
    statuses: Sequence[str] = ()
    checkpoints_only: bool = False

    def __post_init__(self) -> None:
        self.all_recorded = run_index.list_all(self.runs_dir, includes_damaged=True)
        self._runs = [run for run in self.all_recorded if not run.is_sweep and run.status != DAMAGED]
        self._sweeps = {sweep.folder: sweep for sweep in self.all_recorded if sweep.is_sweep}
        self._trials: dict[Path, list[RecordedRun]] = {}
        for run in self._runs:
            self._trials.setdefault(run.folder.parent.parent, []).append(run)
        self.spare_reasons: dict[str, str] = {}
        self.removals = self._select() if self.has_rules else []

    @property
    def has_rules(self) -> bool:
        return self.minimum_age is not None or any((self.ids, self.keep_best, self.statuses, self.checkpoints_only))

    @property
    def kept(self) -> list[RecordedRun]:
        """Runs and sweeps that remain, at least without their checkpoints."""
        removals = [removal for removal in self.removals if removal.is_whole_folder]
        deleted_ids = {run.id for removal in removals for run in (removal.recorded, *removal.trials)}
        return [recorded for recorded in self.all_recorded if recorded.id not in deleted_ids]

    def _select(self) -> list[Removal]:
        matches = self._find_matches()
        self.spare_reasons = {run.id: reason for run in matches if (reason := self._find_spare_reason(run))}
        selected = {run.id: run for run in matches if run.id not in self.spare_reasons}
        while origins := self._find_origins(selected):  # a run that is kept for this reason is a remaining run, too
            self.spare_reasons |= origins
            selected = {run_id: run for run_id, run in selected.items() if run_id not in origins}
        if self.checkpoints_only:
            ended = [run for run in selected.values() if run.status in (FINISHED, PRUNED)]
            removals = [self._make_removal(run, run.folder / checkpoints.FOLDER) for run in ended]
            return [removal for removal in removals if removal.path.is_dir() and not removal.path.is_symlink()]
        whole_sweeps = [
            sweep
            for folder, sweep in self._sweeps.items()
            if folder in self._trials and all(trial.id in selected for trial in self._trials[folder])
        ]
        to_delete = {recorded.folder: recorded for recorded in (*whole_sweeps, *selected.values())}
        return [
            self._make_removal(recorded, folder)
            for folder, recorded in to_delete.items()
            if folder.parent.parent not in to_delete
        ]

    def _make_removal(self, recorded: RecordedRun, path: Path) -> Removal:
        trials, sweep = self._trials.get(recorded.folder, []), self._sweeps.get(recorded.folder.parent.parent)
        return Removal(recorded, path, trials, sweep, measure_size(path))

    def _find_matches(self) -> list[RecordedRun]:
        """Returns the runs, sweeps without trials and named damaged folders that match the rules."""
        named = {run_index.find_recorded(self.all_recorded, i, "sweep or run", self.runs_dir).folder for i in self.ids}
        named_sweeps = named & self._sweeps.keys()
        candidates = list(self._runs)
        if not self.checkpoints_only:
            candidates += [sweep for folder, sweep in self._sweeps.items() if folder not in self._trials]
            candidates += [run for run in self.all_recorded if run.status == DAMAGED and run.folder in named]
        latest_time = math.inf if self.minimum_age is None else time.time() - self.minimum_age
        best_ids = self._find_best_ids()
        return [
            run
            for run in candidates
            if (not named or run.folder in named or run.folder.parent.parent in named_sweeps)
            and run.id not in best_ids
            and float(run.last["time"]) <= latest_time
            and (not self.statuses or run.status.lower() in self.statuses)
        ]

    def _find_best_ids(self) -> set[str]:
        """Returns the IDs of the best trials of each sweep, and of the best single runs with equal data and objective.

        Finished runs are better than others; runs without an objective are never among the best.
        """
        ranks = defaultdict[object, list[tuple[bool, float, int, str]]](list)
        for index, run in enumerate(self._runs):
            params, sweep = run.first.get("params", {}), self._sweeps.get(run.folder.parent.parent)
            mode = str(params.get("objective.mode", "min"))
            comparable = (str(params.get("dataset.plugin")), run.last.get("objective_metric"), mode)
            is_missing, value = make_sort_key(run.last.get("objective"), mode)
            if not is_missing:
                group = comparable if sweep is None else sweep.id
                ranks[group].append((run.status != FINISHED, value, index, run.id))
        return {run_id for group in ranks.values() for *_, run_id in sorted(group)[: self.keep_best or 0]}

    def _find_spare_reason(self, recorded: RecordedRun) -> str | None:
        sweep = self._sweeps.get(recorded.folder.parent.parent)
        if recorded.status == RUNNING:
            return "it is running"
        if recorded.status == DAMAGED and any(map(process_lock.has_live_process, recorded.folder.glob("trials/*/"))):
            return "one of its trials is running"
        if sweep is not None and sweep.status == RUNNING:
            return f"its sweep {sweep.id} is running"
        root = self.runs_dir.absolute()
        if recorded.folder.resolve() != root.resolve() / recorded.folder.relative_to(root):
            return "its path contains a symbolic link; delete it by hand"
        return None

    def _find_origins(self, selected: dict[str, RecordedRun]) -> dict[str, str]:
        """Returns reasons to keep the selected runs that remaining runs started from, by their options."""
        reasons: dict[str, str] = {}
        for run in self._runs:
            if self.checkpoints_only or run.id not in selected:
                texts = [value for value in run.first.get("params", {}).values() if isinstance(value, str)]
                origins = [origin for text in texts for origin in _ID.findall(text)]
                reasons |= {i: f"{run.id} started from it" for i in origins if i in selected and i != run.id}
        return reasons


def measure_size(path: Path) -> int:
    """Returns the bytes of all files in a folder; does not follow symbolic links."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # deleted in the meantime
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
