"""Selection of the runs and sweeps to delete."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from expfw.api import checkpoints
from expfw.api.result import FINISHED, PRUNED
from expfw.cli.runs.clean.rules import Rules
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ranking import make_sort_key
from expfw.tracking.run_index import DAMAGED, RUNNING, IndexEntry
from expfw.tracking.workspace import Workspace

_ID = re.compile(r"-([a-z0-9]{8})(?=/|$)")


@dataclass(frozen=True)
class Removal:
    """A run or sweep to delete.

    Attributes:
        entry: the run, or the sweep with all its trials.
        path: folder to delete: the run folder, or the checkpoints in it.
        trials: trials of the sweep, if `entry` is a sweep.
        sweep: remaining sweep that lists the run; None if the run is not a trial.
    """

    entry: IndexEntry
    path: Path
    trials: Sequence[IndexEntry] = ()
    sweep: IndexEntry | None = None

    @property
    def is_whole_folder(self) -> bool:
        """Whether the whole folder is deleted, not only checkpoints."""
        return self.path == self.entry.folder

    @cached_property
    def size_bytes(self) -> int:
        """Size on disk, in bytes."""
        return measure_size(self.path)


@dataclass
class Selection:
    """Runs and sweeps that match the rules.

    Attributes:
        removals: runs and sweeps to delete.
        spare_reasons: reason why a matching run is not deleted, by ID.
    """

    removals: list[Removal] = field(default_factory=list)
    spare_reasons: dict[str, str] = field(default_factory=dict)


class Inventory:
    """All runs and sweeps of a runs folder, newest first."""

    def __init__(self, workspace: Workspace) -> None:
        self.root = workspace.runs_dir.absolute()
        self.runs = list(workspace.list_runs())
        self.sweeps = list(workspace.list_sweeps())
        self.damaged_entries = run_index.list_damaged_entries(
            workspace.runs_dir, {entry.folder for entry in (*self.runs, *self.sweeps)}
        )
        by_folder = {sweep.folder: sweep for sweep in self.sweeps}
        self._sweep_by_run = {run.id: by_folder.get(run.folder.parent.parent) for run in self.runs}
        self._trials_by_sweep: dict[str, list[IndexEntry]] = defaultdict(list)
        for run in self.runs:
            if (sweep := self._sweep_by_run[run.id]) is not None:
                self._trials_by_sweep[sweep.id].append(run)

    def get_sweep(self, run: IndexEntry) -> IndexEntry | None:
        """Returns the sweep of a trial; None for a single run."""
        return self._sweep_by_run.get(run.id)

    def get_trials(self, sweep: IndexEntry) -> list[IndexEntry]:
        """Returns the trials of a sweep that still exist."""
        return self._trials_by_sweep[sweep.id]

    def select(self, rules: Rules) -> Selection:
        """Selects the runs and sweeps that match the rules.

        Raises:
            NotFoundError: if an ID matches none or several.
            ConfigError: if a rule is invalid.
        """
        entries = [*self.sweeps, *self.runs, *self.damaged_entries]
        named_ids = {run_index.find_entry(iter(entries), i, "sweep or run", self.root).id for i in rules.ids}
        selection = Selection()
        selected_runs = {run.id: run for run in self._select_runs(rules, named_ids)}
        empty_sweeps = [
            s
            for s in self.sweeps
            if not self.get_trials(s) and _matches_rules(s, rules) and (not named_ids or s.id in named_ids)
        ]
        damaged_entries = [
            e
            for e in self.damaged_entries
            if e.id in named_ids and _matches_rules(e, rules) and not rules.checkpoints_only
        ]
        self._spare_entries([*selected_runs.values(), *empty_sweeps, *damaged_entries], selection)
        _spare_origins(selected_runs, selection, self.runs, rules.checkpoints_only)
        runs_to_delete = [run for run in self.runs if run.id in selected_runs and run.id not in selection.spare_reasons]
        selection.removals = (
            self._make_checkpoint_removals(runs_to_delete)
            if rules.checkpoints_only
            else self._make_whole_removals(runs_to_delete, empty_sweeps, selection)
        )
        selection.removals += [
            self._make_damaged_removal(entry)
            for entry in damaged_entries
            if entry.id not in selection.spare_reasons
            and not any(removal.path in entry.folder.parents for removal in selection.removals)
        ]
        return selection

    def _select_runs(self, rules: Rules, named_ids: set[str]) -> list[IndexEntry]:
        runs = [run for run in self.runs if not named_ids or self._is_named(run, named_ids)]
        if rules.keep_best is not None:
            best_ids = {
                run.id for group in self._group_comparable_runs() for run in _sort_best_first(group)[: rules.keep_best]
            }
            runs = [run for run in runs if run.id not in best_ids]
        return [run for run in runs if _matches_rules(run, rules)]

    def _is_named(self, run: IndexEntry, named_ids: set[str]) -> bool:
        sweep = self.get_sweep(run)
        return run.id in named_ids or (sweep is not None and sweep.id in named_ids)

    def _group_comparable_runs(self) -> Iterable[list[IndexEntry]]:
        """Groups the trials of each sweep, and single runs with the same dataset and objective."""
        groups: dict[object, list[IndexEntry]] = defaultdict(list)
        for run in self.runs:
            sweep, params = self.get_sweep(run), run.first.get("params", {})
            group_key = (params.get("dataset.plugin"), run.last.get("objective_metric"), params.get("objective.mode"))
            groups[group_key if sweep is None else sweep.id].append(run)
        return groups.values()

    def _spare_entries(self, entries: Iterable[IndexEntry], selection: Selection) -> None:
        for entry in entries:
            sweep = self._sweep_by_run.get(entry.id)
            if entry.status == RUNNING:
                selection.spare_reasons[entry.id] = "it is running"
            elif entry.status == DAMAGED and any(map(process_lock.has_live_process, entry.folder.glob("trials/*/"))):
                selection.spare_reasons[entry.id] = "one of its trials is running"
            elif sweep is not None and sweep.status == RUNNING:
                selection.spare_reasons[entry.id] = f"its sweep {sweep.id} is running"
            elif entry.folder.resolve() != self.root.resolve() / entry.folder.relative_to(self.root):
                selection.spare_reasons[entry.id] = "its path contains a symbolic link; delete it by hand"

    def _make_whole_removals(
        self, runs_to_delete: Sequence[IndexEntry], empty_sweeps: Sequence[IndexEntry], selection: Selection
    ) -> list[Removal]:
        """Returns whole sweeps if all their trials are deleted, otherwise single trials."""
        ids_to_delete = {run.id for run in runs_to_delete}
        sweeps = {
            s.id: s
            for s in self.sweeps
            if self.get_trials(s) and all(t.id in ids_to_delete for t in self.get_trials(s))
        }
        self._spare_entries(sweeps.values(), selection)
        sweeps |= {sweep.id: sweep for sweep in empty_sweeps}
        sweeps = {identity: sweep for identity, sweep in sweeps.items() if identity not in selection.spare_reasons}
        removals = [Removal(sweep, sweep.folder, self.get_trials(sweep)) for sweep in sweeps.values()]
        for run in runs_to_delete:
            sweep = self.get_sweep(run)
            if sweep is None or sweep.id not in sweeps:
                removals.append(Removal(run, run.folder, sweep=sweep))
        return removals

    def _make_damaged_removal(self, entry: IndexEntry) -> Removal:
        """Returns the removal of a damaged entry, with its trials if it was a sweep."""
        trials = [run for run in self.runs if run.folder.parent.parent == entry.folder]
        sweep = next((sweep for sweep in self.sweeps if sweep.folder == entry.folder.parent.parent), None)
        return Removal(entry, entry.folder, trials, sweep)

    def _make_checkpoint_removals(self, runs_to_delete: Sequence[IndexEntry]) -> list[Removal]:
        ended_runs = [run for run in runs_to_delete if run.status in (FINISHED, PRUNED)]
        folders = [(run, run.folder / checkpoints.FOLDER) for run in ended_runs]
        existing_folders = [(run, path) for run, path in folders if path.is_dir() and not path.is_symlink()]
        return [Removal(run, path, sweep=self.get_sweep(run)) for run, path in existing_folders]


def _matches_rules(entry: IndexEntry, rules: Rules) -> bool:
    is_too_young = (
        rules.minimum_age_seconds is not None and time.time() - float(entry.last["time"]) < rules.minimum_age_seconds
    )
    return not is_too_young and (not rules.statuses or entry.status in rules.statuses)


def _sort_best_first(runs: Sequence[IndexEntry]) -> list[IndexEntry]:
    """Sorts the runs that have an objective: finished runs first, then by objective."""
    mode = str(runs[0].first.get("params", {}).get("objective.mode", "min"))
    ranks = {run.id: (run.status != FINISHED, *make_sort_key(run.last.get("objective"), mode)) for run in runs}
    return sorted((run for run in runs if not ranks[run.id][1]), key=lambda run: ranks[run.id])


def _spare_origins(
    selected_runs: dict[str, IndexEntry], selection: Selection, runs: Sequence[IndexEntry], keep_all: bool
) -> None:
    """Keeps runs from which remaining runs started; repeats, because a kept run is a remaining run, too."""
    while True:
        kept_runs = [
            run for run in runs if keep_all or run.id not in selected_runs or run.id in selection.spare_reasons
        ]
        needed_by = {identity: run.id for run in kept_runs for identity in _find_named_runs(run)}
        reasons = {
            i: f"{needed_by[i]} started from it"
            for i in selected_runs
            if i in needed_by and i not in selection.spare_reasons
        }
        if not reasons:
            return
        selection.spare_reasons |= reasons


def _find_named_runs(run: IndexEntry) -> set[str]:
    """Returns the IDs of runs whose folders the options name: for a warm start or for transferred layers."""
    texts = [value for value in run.first.get("params", {}).values() if isinstance(value, str)]
    return {identity for text in texts for identity in _ID.findall(text)} - {run.id}


def measure_size(path: Path) -> int:
    """Returns the bytes of all files in a folder; does not follow symbolic links."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue  # deleted in the meantime
    return total
