"""Finds runs and sweeps in the runs folder, by ID or status."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import JournalError, NotFoundError, did_you_mean
from expfw.system import process_lock
from expfw.tracking import journal
from expfw.tracking.run_folders import format_runs_dir_option, make_begin_from_override

_FOLDER_NAME = re.compile(r"(\d\d-\d\d-\d\d|\d{3,})-[a-z0-9]{8}")

RUNNING, INTERRUPTED = "RUNNING", "INTERRUPTED"

DAMAGED = "DAMAGED"
"""Status of a folder without a readable journal."""

DELETED_PREFIX = ".deleted-"
"""Prefix of the names of folders that are about to be deleted; they are not listed."""

RUNS_DIR_HINT, RUNS_DIR_HINT_IN_PYTHON = "--runs-dir FOLDER", "runs_dir=FOLDER"
"""How to select another runs folder: on the command line and in Python."""


@dataclass(frozen=True)
class IndexEntry:
    """A run or sweep, as recorded in its journal.

    Attributes:
        folder: run folder or sweep folder.
        first: first record (`run_started` or `sweep_started`).
        last: last record.
        status: status in the last record if it has ended; otherwise RUNNING, or INTERRUPTED if its process is dead.
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


def read_entry(folder: Path) -> IndexEntry:
    """Reads the journal in `folder`.

    Raises:
        JournalError: if there is no journal, or it is damaged.
    """
    first, last = journal.read_first_and_last(folder / journal.NAME)
    if last["kind"] in journal.END_KINDS:
        return IndexEntry(folder, first, last, status=str(last["status"]))
    return IndexEntry(folder, first, last, status=RUNNING if process_lock.has_live_process(folder) else INTERRUPTED)


def list_runs(runs_dir: Path) -> Iterator[IndexEntry]:
    """Returns all runs, including trials of sweeps, newest first. Skips folders without a readable journal."""
    root = runs_dir.absolute()
    return _list_entries([*root.glob("*/*/"), *root.glob("*/*/trials/*/")], "run_started")


def list_sweeps(runs_dir: Path) -> Iterator[IndexEntry]:
    """Returns all sweeps, newest first."""
    return _list_entries([*runs_dir.absolute().glob("*/*/")], "sweep_started")


def _list_entries(candidates: list[Path], kind: str) -> Iterator[IndexEntry]:
    entries = []
    for folder in candidates:
        if _is_deleted(folder):
            continue
        try:
            entry = read_entry(folder)
        except (JournalError, KeyError, NotADirectoryError):
            continue
        if entry.first["kind"] == kind:
            entries.append(entry)
    return iter(sorted(entries, key=lambda e: float(e.first["time"]), reverse=True))


def list_damaged_entries(runs_dir: Path, known_folders: Collection[Path] = (), id_prefix: str = "") -> list[IndexEntry]:
    """Returns the folders of runs and sweeps that have no readable journal.

    Args:
        runs_dir: the runs folder.
        known_folders: folders to skip.
        id_prefix: prefix of the IDs.
    """
    root, damaged_entries = runs_dir.absolute(), []
    for folder in sorted({*root.glob("*/*/"), *root.glob("*/*/trials/*/")} - {*known_folders}):
        if (
            not _FOLDER_NAME.fullmatch(folder.name)
            or not _parse_id(folder).startswith(id_prefix)
            or _is_deleted(folder)
        ):
            continue
        try:
            read_entry(folder)
        except (JournalError, KeyError):
            if not process_lock.has_live_process(folder):  # otherwise it has just started
                damaged_entries.append(make_damaged_entry(folder))
    return damaged_entries


def make_damaged_entry(folder: Path) -> IndexEntry:
    """Returns an entry for a folder with an unreadable journal."""
    modified_at = folder.stat().st_mtime
    first = {
        "kind": "run_started",
        "id": _parse_id(folder),
        "name": folder.name,
        "time": modified_at,
        "tracker": {},
        "files": [],
    }
    return IndexEntry(folder, first, {"kind": "damaged", "time": modified_at}, DAMAGED)


def _parse_id(folder: Path) -> str:
    return folder.name.rpartition("-")[2]


def _is_deleted(folder: Path) -> bool:
    """Returns whether the folder, or the sweep of this trial, is about to be deleted."""
    return folder.name.startswith(DELETED_PREFIX) or folder.parent.parent.name.startswith(DELETED_PREFIX)


def find_run(runs_dir: Path, id_prefix: str, runs_dir_hint: str = RUNS_DIR_HINT) -> IndexEntry:
    """Returns the run whose ID starts with `id_prefix`; see `find_entry`."""
    return find_entry(list_runs(runs_dir), id_prefix, "run", runs_dir, runs_dir_hint)


def find_sweep(runs_dir: Path, id_prefix: str, runs_dir_hint: str = RUNS_DIR_HINT) -> IndexEntry:
    """Returns the sweep whose ID starts with `id_prefix`; see `find_entry`."""
    return find_entry(list_sweeps(runs_dir), id_prefix, "sweep", runs_dir, runs_dir_hint)


def find_entry(
    entries: Iterator[IndexEntry], id_prefix: str, noun: str, runs_dir: Path, runs_dir_hint: str = RUNS_DIR_HINT
) -> IndexEntry:
    """Returns the only entry whose ID starts with `id_prefix`, or whose folder it is.

    Args:
        entries: entries to search.
        id_prefix: prefix of the ID, or the folder.
        noun: `run`, `sweep` or `sweep or run`, for errors.
        runs_dir: the runs folder, for errors.
        runs_dir_hint: how to select another runs folder, for errors.

    Raises:
        NotFoundError: if no entry or several entries match.
        JournalError: if its folder exists, but the journal cannot be read.
    """
    commands = " and ".join(f"`expfw {kind}s list{format_runs_dir_option(runs_dir)}`" for kind in noun.split(" or "))
    list_hint = f"{commands} {'list' if ' or ' in noun else 'lists'} all IDs"
    if not id_prefix:
        raise NotFoundError(f"missing ID; {list_hint}")
    candidates = list(entries)
    matches = [e for e in candidates if e.id.startswith(id_prefix) or e.folder == Path(id_prefix).absolute()]
    if not matches:
        _reject_other_kind(id_prefix, noun, runs_dir)
        for damaged_entry in list_damaged_entries(runs_dir, id_prefix=id_prefix):
            raise JournalError(_explain_damaged(damaged_entry, runs_dir))
        if not runs_dir.is_dir():
            raise NotFoundError(
                f"unknown {noun} {id_prefix!r}: runs folder {runs_dir.absolute()} does not exist; change to the "
                f"folder where it was started, or use {runs_dir_hint}"
            )
        suggestion = did_you_mean(id_prefix, [e.id[: len(id_prefix)] for e in candidates])
        raise NotFoundError(
            f"unknown {noun} {id_prefix!r} in folder {runs_dir}.{suggestion} {list_hint}; for another runs folder: "
            f"{runs_dir_hint}"
        )
    if len(matches) > 1:
        ids = ", ".join(e.id for e in matches)
        raise NotFoundError(f"{noun} {id_prefix!r} is ambiguous: it matches {ids}; give more characters")
    return matches[0]


def _explain_damaged(entry: IndexEntry, runs_dir: Path) -> str:
    weights_hint = f"to start a new run from its weights: expfw run ... {make_begin_from_override(entry.folder)}; "
    return (
        f"cannot read the journal in {entry.folder}; "
        f"{weights_hint if (entry.folder / 'checkpoints').is_dir() else ''}"
        f"to delete it: expfw runs clean {entry.id}{format_runs_dir_option(runs_dir)}"
    )


def _reject_other_kind(id_prefix: str, noun: str, runs_dir: Path) -> None:
    """Rejects the ID of a sweep if a run is expected, and of a run if a sweep is expected."""
    other_kinds = {"run": (list_sweeps, "sweep", "sweeps status"), "sweep": (list_runs, "run", "runs show")}
    if noun in other_kinds:
        list_other_entries, other_noun, command = other_kinds[noun]
        for entry in list_other_entries(runs_dir):
            if entry.id.startswith(id_prefix):
                show = f"expfw {command} {entry.id}{format_runs_dir_option(runs_dir)}"
                raise NotFoundError(f"{entry.id} is a {other_noun}, not a {noun}; to show it: {show}")
