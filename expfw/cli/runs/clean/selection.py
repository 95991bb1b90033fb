"""Selection of the runs and sweeps to delete."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from expfw.api import checkpoints
from expfw.api.result import FINISHED, PRUNED
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ranking import make_sort_key
from expfw.tracking.recorded_run import DAMAGED, RUNNING, RecordedRun
from expfw.tracking.workspace import Workspace

_ID = re.compile(r"-([a-z0-9]{8})(?=/|$)")


@dataclass(frozen=True)
class CleanRequest:
    """Arguments of the command. A run is selected if it matches all given rules.

    Attributes:
        workspace: the runs folder and the plugins.
        ids: IDs of runs and sweeps, or their first characters; a sweep selects all its trials.
        keep_best: number of best runs to keep in each sweep and each group of comparable single runs.
        minimum_age: seconds since the last record.
        statuses: selected statuses, in small letters.
        checkpoints_only: whether to delete only the checkpoints of finished and pruned runs.
        overrides: overrides of `tracker`, if it differs from the recorded tracker.
        no_tracker: whether to leave the trackers unchanged.
    """

    workspace: Workspace
    ids: Sequence[str] = ()
    keep_best: int | None = None
    minimum_age: float | None = None
    statuses: Sequence[str] = ()
    checkpoints_only: bool = False
    overrides: Sequence[str] = ()
    no_tracker: bool = False

    @property
    def has_rules(self) -> bool:
        return self.minimum_age is not None or any((self.ids, self.keep_best, self.statuses, self.checkpoints_only))


@dataclass(frozen=True, eq=False)
class Removal:
    """A run or sweep to delete.

    Attributes:
        entry: the run, or the sweep with all its trials.
        path: folder to delete: the run folder, or the checkpoints in it.
        trials: trials of the sweep, if `entry` is a sweep.
        sweep: remaining sweep that lists the run; None if the run is not a trial.
    """

    entry: RecordedRun
    path: Path
    trials: Sequence[RecordedRun]
    sweep: RecordedRun | None

    @property
    def is_whole_folder(self) -> bool:
        """Whether the whole folder is deleted, not only checkpoints."""
        return self.path == self.entry.folder

    @cached_property
    def size_bytes(self) -> int:
        """Size on disk, in bytes."""
        return measure_size(self.path)


class Selection:
    """All runs and sweeps of a runs folder, newest first, and those that match the rules.

    Attributes:
        entries: all runs, sweeps and folders without a readable journal.
        removals: runs and sweeps to delete.
        spare_reasons: reason why a matching run is not deleted, by ID.

    Raises:
        NotFoundError: if an ID matches none or several.
    """

    def __init__(self, request: CleanRequest) -> None:
        self._request = request
        self._root = request.workspace.runs_dir.absolute()
        self.entries = run_index.list_all(self._root, includes_damaged=True)
        self._sweeps = [entry for entry in self.entries if entry.is_sweep]
        self._runs = [entry for entry in self.entries if not entry.is_sweep and entry.status != DAMAGED]
        self._sweeps_by_folder = {sweep.folder: sweep for sweep in self._sweeps}
        self._trials_by_folder: dict[Path, list[RecordedRun]] = defaultdict(list)
        for run in self._runs:
            self._trials_by_folder[run.folder.parent.parent].append(run)
        self.spare_reasons: dict[str, str] = {}
        self.removals = self._select() if request.has_rules else []

    @cached_property
    def kept(self) -> list[RecordedRun]:
        """Runs and sweeps that remain, at least without their checkpoints."""
        removals = [removal for removal in self.removals if removal.is_whole_folder]
        deleted_ids = {entry.id for removal in removals for entry in (removal.entry, *removal.trials)}
        return [entry for entry in self.entries if entry.id not in deleted_ids]

    def measure_kept_bytes(self) -> int:
        """Returns the size of the runs and sweeps that remain."""
        top_folders = [entry.folder for entry in self.entries if entry.folder.parents[1] == self._root]
        return sum(map(measure_size, top_folders)) - sum(removal.size_bytes for removal in self.removals)

    def _get_sweep(self, entry: RecordedRun) -> RecordedRun | None:
        return self._sweeps_by_folder.get(entry.folder.parent.parent)

    def _select(self) -> list[Removal]:
        selected = {entry.id: entry for entry in self._find_matches()}
        reasons = {identity: self._find_spare_reason(entry) for identity, entry in selected.items()}
        self.spare_reasons = {identity: reason for identity, reason in reasons.items() if reason}
        self._spare_origins(selected)
        to_delete = {identity: entry for identity, entry in selected.items() if identity not in self.spare_reasons}
        if self._request.checkpoints_only:
            ended_runs = [run for run in to_delete.values() if run.status in (FINISHED, PRUNED)]
            removals = [Removal(run, run.folder / checkpoints.FOLDER, (), self._get_sweep(run)) for run in ended_runs]
            return [removal for removal in removals if removal.path.is_dir() and not removal.path.is_symlink()]
        whole_sweeps = [
            sweep
            for sweep in self._sweeps
            if (trials := self._trials_by_folder[sweep.folder]) and all(trial.id in to_delete for trial in trials)
        ]
        entries = [*whole_sweeps, *to_delete.values()]
        deleted_folders = {entry.folder for entry in entries}
        return [
            Removal(entry, entry.folder, self._trials_by_folder[entry.folder], self._get_sweep(entry))
            for entry in entries
            if entry.folder.parent.parent not in deleted_folders
        ]

    def _find_matches(self) -> list[RecordedRun]:
        """Returns the runs, sweeps without trials and named damaged folders that match the rules."""
        request = self._request
        named = {run_index.find_recorded(self.entries, i, "sweep or run", self._root).folder for i in request.ids}
        named_sweeps = named & self._sweeps_by_folder.keys()
        candidates = list(self._runs)
        if not request.checkpoints_only:
            candidates += [sweep for sweep in self._sweeps if not self._trials_by_folder[sweep.folder]]
            candidates += [entry for entry in self.entries if entry.status == DAMAGED and entry.folder in named]
        latest_time = math.inf if request.minimum_age is None else time.time() - request.minimum_age
        best_ids = self._find_best_ids()
        return [
            entry
            for entry in candidates
            if (not named or entry.folder in named or entry.folder.parent.parent in named_sweeps)
            and entry.id not in best_ids
            and float(entry.last["time"]) <= latest_time
            and (not request.statuses or entry.status.lower() in request.statuses)
        ]

    def _find_best_ids(self) -> set[str]:
        """Returns the IDs of the best trials of each sweep, and of the best single runs with equal data and objective.

        Finished runs are better than others; runs without an objective are never among the best.
        """
        ranks: list[tuple[bool, float, int, object]] = []
        for index, run in enumerate(self._runs):
            params, sweep = run.first.get("params", {}), self._get_sweep(run)
            mode = params.get("objective.mode", "min")
            comparable = (params.get("dataset.plugin"), run.last.get("objective_metric"), mode)
            is_missing, value = make_sort_key(run.last.get("objective"), mode)
            if not is_missing:
                ranks.append((run.status != FINISHED, value, index, comparable if sweep is None else sweep.id))
        counts: Counter[object] = Counter()
        best_ids = set()
        for _, _, index, group in sorted(ranks):
            counts[group] += 1
            if counts[group] <= (self._request.keep_best or 0):
                best_ids.add(self._runs[index].id)
        return best_ids

    def _find_spare_reason(self, entry: RecordedRun) -> str | None:
        sweep = self._get_sweep(entry)
        if entry.status == RUNNING:
            return "it is running"
        if entry.status == DAMAGED and any(map(process_lock.has_live_process, entry.folder.glob("trials/*/"))):
            return "one of its trials is running"
        if sweep is not None and sweep.status == RUNNING:
            return f"its sweep {sweep.id} is running"
        if entry.folder.resolve() != self._root.resolve() / entry.folder.relative_to(self._root):
            return "its path contains a symbolic link; delete it by hand"
        return None

    def _spare_origins(self, selected: dict[str, RecordedRun]) -> None:
        """Keeps runs whose folders the options of remaining runs name, for a warm start or transferred layers."""
        while True:  # a kept run is a remaining run, too
            needed_by: dict[str, str] = {}
            for run in self._runs:
                if self._request.checkpoints_only or run.id not in selected or run.id in self.spare_reasons:
                    texts = [value for value in run.first.get("params", {}).values() if isinstance(value, str)]
                    needed_by |= {i: run.id for text in texts for i in _ID.findall(text) if i != run.id}
            spared = [i for i in selected if i in needed_by and i not in self.spare_reasons]
            if not spared:
                return
            self.spare_reasons |= {identity: f"{needed_by[identity]} started from it" for identity in spared}


def measure_size(path: Path) -> int:
    """Returns the bytes of all files in a folder; does not follow symbolic links."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # deleted in the meantime
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
