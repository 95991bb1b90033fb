"""Finds runs and sweeps in the runs folder, by ID or status."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import JournalError, NotFoundError, did_you_mean
from expfw.system import process_lock
from expfw.tracking import journal
from expfw.tracking.run_folders import begin_from, option

_NAME = re.compile(r"(\d\d-\d\d-\d\d|\d{3,})-[a-z0-9]{8}")

RUNNING, INTERRUPTED = "RUNNING", "INTERRUPTED"

DAMAGED = "DAMAGED"
"""Of what has no journal that can be read."""

DELETED = ".deleted-"
"""How the names of folders begin that are about to be deleted: nobody lists them."""

ELSEWHERE, ELSEWHERE_IN_PYTHON = "--runs-dir FOLDER", "runs_dir=FOLDER"

"""How to say that the runs folder is another one, where one types and in Python."""


@dataclass(frozen=True)
class Entry:
    """A run or a sweep as its journal tells it.

    Attributes:
        first: the record it began with (`run_started` or `sweep_started`).
        last: its last record.
        status: of the last record where it ended; else RUNNING, or INTERRUPTED where its process is gone.
    """

    folder: Path
    first: journal.Record
    last: journal.Record
    status: str

    @property
    def id(self) -> str:
        return str(self.first["id"])

    @property
    def name(self) -> str:
        return str(self.first["name"])


def entry(folder: Path) -> Entry:
    """Reads what the journal in `folder` says.

    Raises:
        JournalError: there is none, or it is damaged.
    """
    first, last = journal.first_and_last(folder / journal.NAME)
    if last["kind"] in journal.ENDS:
        return Entry(folder, first, last, status=str(last["status"]))
    return Entry(folder, first, last, status=RUNNING if process_lock.lives(folder) else INTERRUPTED)


def runs(runs_dir: Path) -> Iterator[Entry]:
    """All runs, trials of sweeps among them, newest first. Folders without a readable journal are passed over."""
    root = runs_dir.absolute()
    return _entries([*root.glob("*/*/"), *root.glob("*/*/trials/*/")], "run_started")


def sweeps(runs_dir: Path) -> Iterator[Entry]:
    """All sweeps, newest first."""
    return _entries([*runs_dir.absolute().glob("*/*/")], "sweep_started")


def _entries(candidates: list[Path], kind: str) -> Iterator[Entry]:
    found = []
    for folder in candidates:
        if _is_deleted(folder):
            continue
        try:
            one = entry(folder)
        except (JournalError, KeyError, NotADirectoryError):
            continue
        if one.first["kind"] == kind:
            found.append(one)
    return iter(sorted(found, key=lambda e: float(e.first["time"]), reverse=True))


def unreadable(runs_dir: Path, known: Collection[Path] = (), identity: str = "") -> list[Entry]:
    """What lies there without a journal that can be read.

    Args:
        known: folders that need not be looked at again; identity: how the ids begin.
    """
    root, found = runs_dir.absolute(), []
    for folder in sorted({*root.glob("*/*/"), *root.glob("*/*/trials/*/")} - {*known}):
        if not _NAME.fullmatch(folder.name) or not _id_of(folder).startswith(identity) or _is_deleted(folder):
            continue
        try:
            entry(folder)
        except (JournalError, KeyError):
            if not process_lock.lives(folder):  # else it has only just begun
                found.append(damaged(folder))
    return found


def damaged(folder: Path) -> Entry:
    """What can be told of a folder whose journal cannot be read."""
    since = folder.stat().st_mtime
    first = {
        "kind": "run_started",
        "id": _id_of(folder),
        "name": folder.name,
        "time": since,
        "tracker": {},
        "files": [],
    }
    return Entry(folder, first, {"kind": "damaged", "time": since}, DAMAGED)


def _id_of(folder: Path) -> str:
    return folder.name.rpartition("-")[2]


def _is_deleted(folder: Path) -> bool:
    """Whether it, or the sweep that it is a trial of, is about to be deleted."""
    return folder.name.startswith(DELETED) or folder.parent.parent.name.startswith(DELETED)


def find_run(runs_dir: Path, identity: str, elsewhere: str = ELSEWHERE) -> Entry:
    """The run whose id begins so; see `find`."""
    return find(runs(runs_dir), identity, "run", runs_dir, elsewhere)


def find_sweep(runs_dir: Path, identity: str, elsewhere: str = ELSEWHERE) -> Entry:
    """The sweep whose id begins so; see `find`."""
    return find(sweeps(runs_dir), identity, "sweep", runs_dir, elsewhere)


def find(entries: Iterator[Entry], identity: str, what: str, runs_dir: Path, elsewhere: str = ELSEWHERE) -> Entry:
    """The one entry whose id, or folder, begins so.

    Args:
        what: it is, for messages: `run`, `sweep` or `sweep or run`; elsewhere: how to name another runs folder.

    Raises:
        NotFoundError: there is none, or more than one.
        JournalError: there is its folder, but no journal that tells anything.
    """
    commands = " and ".join(f"`expfw {kind}s list{option(runs_dir)}`" for kind in what.split(" or "))
    lists = f"{commands} {'show' if ' or ' in what else 'shows'}"
    if not identity:
        raise NotFoundError(f"no id given; {lists} all there are")
    known = list(entries)
    matching = [e for e in known if e.id.startswith(identity) or e.folder == Path(identity).absolute()]
    if not matching:
        _refuse_the_other_kind(identity, what, runs_dir)
        for one in unreadable(runs_dir, identity=identity):
            raise JournalError(_of_damaged(one, runs_dir))
        if not runs_dir.is_dir():
            raise NotFoundError(
                f"no {what} {identity!r}: there is no folder {runs_dir.absolute()}; go to where it was started, or "
                f"give its runs folder with {elsewhere}"
            )
        meant = did_you_mean(identity, [e.id[: len(identity)] for e in known]).replace(" Did", " did")
        raise NotFoundError(
            f"no {what} {identity!r} in {runs_dir};{meant} {lists} all there are; for another runs folder: {elsewhere}"
        )
    if len(matching) > 1:
        ids = ", ".join(e.id for e in matching)
        raise NotFoundError(f"{what} {identity!r} could be any of {ids}; give more letters")
    return matching[0]


def _of_damaged(one: Entry, runs_dir: Path) -> str:
    weights = f"for a new run from its weights: expfw run ... {begin_from(one.folder)}; "
    return (
        f"{one.folder} has no journal that can be read; "
        f"{weights if (one.folder / 'checkpoints').is_dir() else ''}"
        f"to delete it: expfw runs clean {one.id}{option(runs_dir)}"
    )


def _refuse_the_other_kind(identity: str, what: str, runs_dir: Path) -> None:
    """Says where a sweep was named for a run, or a run for a sweep."""
    others = {"run": (sweeps, "sweep", "sweeps status"), "sweep": (runs, "run", "runs show")}
    if what in others:
        entries, other, command = others[what]
        for one in entries(runs_dir):
            if one.id.startswith(identity):
                show = f"expfw {command} {one.id}{option(runs_dir)}"
                raise NotFoundError(f"{one.id} is a {other}, not a {what}; `{show}` shows it")
