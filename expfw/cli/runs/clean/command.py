"""`expfw runs clean`: says what would go and what stays, and with `--yes` deletes it."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw.cli.runs import sync
from expfw.cli.runs.clean import removal, trackers
from expfw.cli.runs.clean.rules import Rules
from expfw.cli.runs.clean.selection import Inventory, Removal, Selection, size
from expfw.errors import ConfigError, NotFoundError, RunsFolderError
from expfw.reports import console as terminal
from expfw.reports import tables
from expfw.system import formatting
from expfw.system.formatting import many
from expfw.tracking import run_folders
from expfw.tracking.run_index import DAMAGED, Entry

_MOST_ROWS = 40


@dataclass(frozen=True)
class Wish:
    """How the command was given.

    Attributes:
        overrides: of `tracker`, where it is another one than the record says.
        files: plain Python files with plugins.
        in_trackers: whether trackers are asked too.
        really: whether it is done, and not only said.
    """

    rules: Rules
    runs_dir: Path
    overrides: Sequence[str] = ()
    files: tuple[str, ...] = ()
    in_trackers: bool = True
    really: bool = False
    as_json: bool = False

    def command(self) -> str:
        """To do it."""
        files = [word for file in self.files for word in ("-p", file)]
        tracker = [] if self.in_trackers else ["--no-tracker"]
        words = ["expfw", *files, "runs", "clean", *self.rules.words(), *self.overrides, *tracker, "--yes"]
        return shlex.join(words) + run_folders.option(self.runs_dir)


@dataclass
class Done:
    """What was deleted, of what, and what could not be, by id, with the reason."""

    removed: list[Removal] = field(default_factory=list)
    trackers: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def clean(wish: Wish) -> int:
    """Returns the exit code: 1 where something could not be deleted.

    Raises:
        ConfigError: nothing says what is to be deleted, or a rule is none.
        NotFoundError: there is nothing, or nothing of an id.
    """
    root = wish.runs_dir.absolute()
    rest = removal.unfinished(root) if wish.in_trackers or wish.rules.empty else []  # these wait for trackers
    if wish.rules.empty and not rest:
        raise ConfigError(
            "say what to delete: ids of runs or sweeps, --keep-best N, --older-than 30d, --status failed, or "
            "--checkpoints-only; without --yes nothing is deleted"
        )
    inventory = Inventory(wish.runs_dir)
    if not (inventory.runs or inventory.sweeps or inventory.damaged or rest):
        raise NotFoundError(f"no runs in {wish.runs_dir}; for another runs folder: --runs-dir FOLDER")
    chosen = Selection() if wish.rules.empty else inventory.select(wish.rules)
    done = _delete(chosen.removals, rest, wish) if wish.really else Done()
    if wish.as_json:
        print(json.dumps(_as_json(inventory, chosen, done, rest, wish), indent=2))
    elif wish.really:
        _say_done(done, chosen, rest)
    else:
        _say_plan(inventory, chosen, rest, wish)
    return 1 if done.failed else 0


def _delete(removals: Sequence[Removal], rest: Sequence[Path], wish: Wish) -> Done:
    done = Done()
    marked = list(rest)
    if wish.in_trackers:
        before = [entry for path in rest if (entry := removal.known(path)) is not None]
        before += [one.entry for one in removals if one.whole]
        trackers.check(before, wish.overrides, wish.runs_dir.absolute(), wish.files)
    for path in marked:
        removal.settle_ledger(path)
    for one in removals:
        try:
            _ = one.bytes  # before it goes
            marked.append(removal.mark(one))
            done.removed.append(one)
        except RunsFolderError as error:
            done.failed[one.entry.id] = str(error)
    left = _forget(marked, wish, done)
    for path in marked:
        entry = removal.known(path)
        try:
            if entry is not None and entry.id in left:
                removal.reduce(path)
            else:
                removal.remove(path)
        except OSError as error:
            done.failed[path.name] = (
                f"{path} cannot be removed ({error.strerror}); the next expfw runs clean tries again"
            )
    sync.clear(wish.runs_dir.absolute())
    return done


def _forget(marked: Sequence[Path], wish: Wish, done: Done) -> Mapping[str, str]:
    """Takes them out of the trackers; returns what is left there, by id, with the reason."""
    entries = [entry for path in marked if (entry := removal.known(path)) is not None]
    if not wish.in_trackers or not any(trackers.names(entry) for entry in entries):
        return {}
    console = terminal.screen(stderr=True)
    waiting = console.status("deleting in the trackers") if console.is_terminal else nullcontext()
    with waiting:
        outcome = trackers.forget(entries, wish.overrides, wish.runs_dir.absolute(), wish.files)
    done.trackers, done.notes = outcome.done, outcome.notes
    done.failed |= outcome.left
    return outcome.left


def _say_plan(inventory: Inventory, chosen: Selection, rest: Sequence[Path], wish: Wish) -> None:
    rows = _rows(chosen.removals)
    if rows:
        title = "checkpoints of" if wish.rules.checkpoints_only else "would delete"
        header = [title, "what", "last used", "status", "size"]
        terminal.screen().print(tables.plain_table(header, rows[:_MOST_ROWS], whole=header[2:]))
        if len(rows) > _MOST_ROWS:
            print(f"and {len(rows) - _MOST_ROWS} more (--json has all)")
    else:
        print("nothing to delete" + (" by these rules" if not wish.rules.empty else ""))
    if rest:
        print(
            f"and what an earlier one left behind: {many(len(rest), 'folder')}, {formatting.size(sum(map(size, rest)))}"
        )
    going = sum(one.bytes for one in chosen.removals) + sum(map(size, rest))
    for line in _spared(chosen):
        print(line)
    print(_what_stays(inventory, chosen.removals))
    if rows or rest:
        where = ", ".join(sorted({name for one in chosen.removals if one.whole for name in trackers.names(one.entry)}))
        too = f", and what {where} has of them" if where and wish.in_trackers else ""
        print(f"\nfrees {formatting.size(going)}{too}. Nothing was deleted; to do it:\n{wish.command()}")


def _rows(removals: Sequence[Removal]) -> list[list[str]]:
    """One for each, the trials of a sweep that stays together."""
    rows, grouped = [], dict[str, list[Removal]]()
    for one in removals:
        if one.sweep is not None:
            grouped.setdefault(one.sweep.id, []).append(one)
            continue
        what = f"sweep, {many(len(one.trials), 'trial')}" if _is_sweep(one.entry) else "run"
        what = "no readable journal" if one.entry.status == DAMAGED else what
        rows.append([one.entry.id, what, _when(one.entry), one.entry.status, formatting.size(one.bytes)])
    for sweep, ones in grouped.items():
        ids = " ".join(one.entry.id for one in ones[:3]) + (" ..." if len(ones) > 3 else "")
        statuses = dict.fromkeys(one.entry.status for one in ones)
        newest = max((one.entry for one in ones), key=lambda entry: float(entry.last["time"]))
        what = f"{many(len(ones), 'trial')} of sweep {sweep}"
        total = formatting.size(sum(one.bytes for one in ones))
        rows.append([ids, what, _when(newest), " ".join(statuses), total])
    return rows


def _spared(chosen: Selection) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for identity, reason in chosen.spared.items():
        reasons.setdefault(reason, []).append(identity)
    return [
        f"spared: {' '.join(ids[:5])}{f' and {len(ids) - 5} more' if len(ids) > 5 else ''}: {reason}"
        for reason, ids in reasons.items()
    ]


def _what_stays(inventory: Inventory, removals: Sequence[Removal]) -> str:
    gone = {entry.id for one in removals if one.whole for entry in (one.entry, *one.trials)}
    sweeps = [entry for entry in inventory.sweeps if entry.id not in gone]
    runs = [entry for entry in inventory.runs if entry.id not in gone]
    trials = sum(inventory.sweep_of(run) is not None for run in runs)
    own = [entry.folder for entry in (*sweeps, *runs) if inventory.sweep_of(entry) is None]
    kept = sum(map(size, own)) - sum(one.bytes for one in removals if one.sweep is not None or not one.whole)
    parts = [many(len(runs) - trials, "run")] * (len(runs) > trials)
    parts += [f"{many(len(sweeps), 'sweep')} with {many(trials, 'trial')}"] * bool(sweeps)
    return f"stays: {', '.join([*parts, formatting.size(kept)]) if parts else 'nothing'}"


def _say_done(done: Done, chosen: Selection, rest: Sequence[Path]) -> None:
    for line in (*_spared(chosen), *done.notes):
        print(line)
    runs = sum(not _is_sweep(one.entry) for one in done.removed)
    sweeps = len(done.removed) - runs
    what = [many(runs, "run")] * bool(runs) + [many(sweeps, "sweep")] * bool(sweeps)
    of = "the checkpoints of " if done.removed and not done.removed[0].whole else ""
    freed = formatting.size(sum(one.bytes for one in done.removed))
    also = f" and what an earlier one left behind ({len(rest)})" if rest else ""
    where = f", also in {', '.join(sorted(done.trackers))}" if done.trackers else ""
    print(f"deleted {of}{' and '.join(what) or 'nothing'}{also}{where}; {freed} freed")
    for line in dict.fromkeys(done.failed.values()):
        ids = [identity for identity, reason in done.failed.items() if reason == line]
        print(f"expfw: {' '.join(ids[:3])}{' ...' if len(ids) > 3 else ''}: {line}", file=sys.stderr)
    if done.failed:
        print(
            "expfw: `expfw runs clean --yes` does what is left, once that is mended; with --no-tracker it leaves the "
            "trackers as they are",
            file=sys.stderr,
        )


def _as_json(inventory: Inventory, chosen: Selection, done: Done, rest: Sequence[Path], wish: Wish) -> dict[str, Any]:
    gone = {entry.id for one in chosen.removals for entry in (one.entry, *one.trials)}
    removed = {one.entry.id for one in done.removed}
    return {
        "deleted": wish.really,
        "delete": [{**_about(one), "done": one.entry.id in removed} for one in chosen.removals],
        "spared": chosen.spared,
        "keep": [entry.id for entry in (*inventory.sweeps, *inventory.runs) if entry.id not in gone],
        "bytes": sum(one.bytes for one in chosen.removals),
        "unfinished": [str(path) for path in rest],
        "trackers": sorted(done.trackers),
        "failed": done.failed,
        "notes": done.notes,
    }


def _about(one: Removal) -> dict[str, Any]:
    return {
        "id": one.entry.id,
        "kind": "sweep" if _is_sweep(one.entry) else "run" if one.sweep is None else "trial",
        "sweep": None if one.sweep is None else one.sweep.id,
        "trials": [trial.id for trial in one.trials],
        "status": one.entry.status,
        "path": str(one.path),
        "bytes": one.bytes,
    }


def _is_sweep(entry: Entry) -> bool:
    return bool(entry.first["kind"] == "sweep_started")


def _when(entry: Entry) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(entry.last["time"]))
