"""Which runs and sweeps rules choose, and which of these are spared, with the reason."""

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
from expfw.api.run import FINISHED, PRUNED
from expfw.cli.runs.clean.rules import Rules
from expfw.system import process_lock
from expfw.tracking import run_index
from expfw.tracking.ranking import place
from expfw.tracking.run_index import DAMAGED, RUNNING, Entry

_ID = re.compile(r"-([a-z0-9]{8})(?=/|$)")


@dataclass(frozen=True)
class Removal:
    """What goes as one.

    Attributes:
        entry: a run, or a sweep with all its trials.
        sweep: of a trial, the sweep that stays and goes on to list it.
        path: what is deleted: the folder, or the checkpoints in it.
    """

    entry: Entry
    path: Path
    trials: Sequence[Entry] = ()
    sweep: Entry | None = None

    @property
    def whole(self) -> bool:
        """Whether it is more than checkpoints."""
        return self.path == self.entry.folder

    @cached_property
    def bytes(self) -> int:
        """How much of the disk it takes."""
        return size(self.path)


@dataclass
class Selection:
    """What goes, and what the rules chose but is spared, by reason."""

    removals: list[Removal] = field(default_factory=list)
    spared: dict[str, str] = field(default_factory=dict)


class Inventory:
    """All runs and sweeps of a runs folder, newest first."""

    def __init__(self, runs_dir: Path) -> None:
        self.root = runs_dir.absolute()
        self.runs = list(run_index.runs(runs_dir))
        self.sweeps = list(run_index.sweeps(runs_dir))
        self.damaged = run_index.unreadable(runs_dir, {entry.folder for entry in (*self.runs, *self.sweeps)})
        by_folder = {sweep.folder: sweep for sweep in self.sweeps}
        self._sweep_of = {run.id: by_folder.get(run.folder.parent.parent) for run in self.runs}
        self._trials: dict[str, list[Entry]] = defaultdict(list)
        for run in self.runs:
            if (sweep := self._sweep_of[run.id]) is not None:
                self._trials[sweep.id].append(run)

    def sweep_of(self, run: Entry) -> Entry | None:
        """Of a trial, its sweep."""
        return self._sweep_of.get(run.id)

    def trials(self, sweep: Entry) -> list[Entry]:
        """Those that are still there."""
        return self._trials[sweep.id]

    def select(self, rules: Rules) -> Selection:
        """What the rules choose.

        Raises:
            NotFoundError: an id is that of nothing, or of several.
            ConfigError: a rule is none.
        """
        everything = [*self.sweeps, *self.runs, *self.damaged]
        named = {run_index.find(iter(everything), i, "sweep or run", self.root).id for i in rules.ids}
        made = Selection()
        chosen = {run.id: run for run in self._chosen(rules, named)}
        empty = [s for s in self.sweeps if not self.trials(s) and _fits(s, rules) and (not named or s.id in named)]
        damaged = [e for e in self.damaged if e.id in named and _fits(e, rules) and not rules.checkpoints_only]
        self._spare([*chosen.values(), *empty, *damaged], made)
        _spare_origins(chosen, made, self.runs, rules.checkpoints_only)
        left = [run for run in self.runs if run.id in chosen and run.id not in made.spared]
        made.removals = self._checkpoints(left) if rules.checkpoints_only else self._whole(left, empty, made)
        made.removals += [
            self._of_damaged(entry)
            for entry in damaged
            if entry.id not in made.spared and not any(one.path in entry.folder.parents for one in made.removals)
        ]
        return made

    def _chosen(self, rules: Rules, named: set[str]) -> list[Entry]:
        runs = [run for run in self.runs if not named or self._is_named(run, named)]
        if rules.keep_best is not None:
            best = {run.id for group in self._comparable() for run in _best_first(group)[: rules.keep_best]}
            runs = [run for run in runs if run.id not in best]
        return [run for run in runs if _fits(run, rules)]

    def _is_named(self, run: Entry, named: set[str]) -> bool:
        sweep = self.sweep_of(run)
        return run.id in named or (sweep is not None and sweep.id in named)

    def _comparable(self) -> Iterable[list[Entry]]:
        """The trials of each sweep; and of runs on their own those on the same data with the same objective."""
        groups: dict[object, list[Entry]] = defaultdict(list)
        for run in self.runs:
            sweep, about = self.sweep_of(run), run.first.get("params", {})
            alone = (about.get("dataset.plugin"), run.last.get("objective_metric"), about.get("objective.mode"))
            groups[alone if sweep is None else sweep.id].append(run)
        return groups.values()

    def _spare(self, chosen: Iterable[Entry], made: Selection) -> None:
        for entry in chosen:
            sweep = self._sweep_of.get(entry.id)
            if entry.status == RUNNING:
                made.spared[entry.id] = "it is running"
            elif entry.status == DAMAGED and any(map(process_lock.lives, entry.folder.glob("trials/*/"))):
                made.spared[entry.id] = "a trial of it is running"
            elif sweep is not None and sweep.status == RUNNING:
                made.spared[entry.id] = f"its sweep {sweep.id} is running"
            elif entry.folder.resolve() != self.root.resolve() / entry.folder.relative_to(self.root):
                made.spared[entry.id] = "a symbolic link leads there; delete it by hand"

    def _whole(self, left: Sequence[Entry], empty: Sequence[Entry], made: Selection) -> list[Removal]:
        """A sweep goes with its last trial; of one that stays, trials go one by one."""
        going = {run.id for run in left}
        sweeps = {s.id: s for s in self.sweeps if self.trials(s) and all(t.id in going for t in self.trials(s))}
        self._spare(sweeps.values(), made)
        sweeps |= {sweep.id: sweep for sweep in empty}
        sweeps = {identity: sweep for identity, sweep in sweeps.items() if identity not in made.spared}
        removals = [Removal(sweep, sweep.folder, self.trials(sweep)) for sweep in sweeps.values()]
        for run in left:
            sweep = self.sweep_of(run)
            if sweep is None or sweep.id not in sweeps:
                removals.append(Removal(run, run.folder, sweep=sweep))
        return removals

    def _of_damaged(self, entry: Entry) -> Removal:
        """With the trials in it, where it was a sweep."""
        trials = [run for run in self.runs if run.folder.parent.parent == entry.folder]
        sweep = next((sweep for sweep in self.sweeps if sweep.folder == entry.folder.parent.parent), None)
        return Removal(entry, entry.folder, trials, sweep)

    def _checkpoints(self, left: Sequence[Entry]) -> list[Removal]:
        ended = [run for run in left if run.status in (FINISHED, PRUNED)]
        places = [(run, run.folder / checkpoints.FOLDER) for run in ended]
        kept = [(run, path) for run, path in places if path.is_dir() and not path.is_symlink()]
        return [Removal(run, path, sweep=self.sweep_of(run)) for run, path in kept]


def _fits(entry: Entry, rules: Rules) -> bool:
    young = rules.seconds is not None and time.time() - float(entry.last["time"]) < rules.seconds
    return not young and (not rules.statuses or entry.status in rules.statuses)


def _best_first(runs: Sequence[Entry]) -> list[Entry]:
    """Those that have an objective: first what has finished, each by the objective."""
    mode = str(runs[0].first.get("params", {}).get("objective.mode", "min"))
    ranks = {run.id: (run.status != FINISHED, *place(run.last.get("objective"), mode)) for run in runs}
    return sorted((run for run in runs if not ranks[run.id][1]), key=lambda run: ranks[run.id])


def _spare_origins(chosen: dict[str, Entry], made: Selection, runs: Sequence[Entry], all_stay: bool) -> None:
    """Spares runs that others, which stay, began from; again and again, since these stay now, too."""
    while True:
        staying = [run for run in runs if all_stay or run.id not in chosen or run.id in made.spared]
        needed = {identity: run.id for run in staying for identity in _named_in(run)}
        found = {i: f"{needed[i]} continues from it" for i in chosen if i in needed and i not in made.spared}
        if not found:
            return
        made.spared |= found


def _named_in(run: Entry) -> set[str]:
    """The runs whose folders the options of another one name: what it began from, or took layers from."""
    texts = [value for value in run.first.get("params", {}).values() if isinstance(value, str)]
    return {identity for text in texts for identity in _ID.findall(text)} - {run.id}


def size(path: Path) -> int:
    """Bytes of all files below; what symbolic links lead to does not count."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue  # it has just gone
    return total
