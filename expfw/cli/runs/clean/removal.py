"""Deletion of a run or sweep in an order that a kill cannot break.

First the folder is renamed to `.deleted-...`: the run disappears from all lists at once. Then it is deleted from the
trackers, then from the disk. If the process is killed in between, the next `expfw runs clean` finishes the deletion.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from expfw.api import checkpoints
from expfw.api.result import KILLED
from expfw.cli.runs.clean.selection import Removal
from expfw.errors import JournalError, RunsFolderError
from expfw.system import atomic_files, process_lock
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import WAITING, Ledger
from expfw.tracking.run_index import DELETED_PREFIX, INTERRUPTED, RUNNING, IndexEntry


def mark_deleted(removal: Removal) -> Path:
    """Renames the folder to `.deleted-...`; the ledger of a remaining sweep keeps the result of its trial.

    Raises:
        RunsFolderError: if another process writes or delivers the folder, or it cannot be renamed.
    """
    entry = removal.entry
    marked_path = removal.path.with_name(f"{DELETED_PREFIX}{removal.path.name}")
    with ExitStack() as locks:
        if removal.sweep is not None:
            locks.enter_context(process_lock.lock_folder(removal.sweep.folder))
        for locked_entry in (entry, *removal.trials):
            locks.enter_context(_lock_folder(locked_entry.folder))
        try:
            removal.path.rename(marked_path)
            atomic_files.sync_to_disk(marked_path.parent)
        except OSError as error:
            raise RunsFolderError(f"cannot delete {removal.path}: {error.strerror}") from error
        if removal.sweep is not None and removal.is_whole_folder:
            _remove_folder_from_ledger(removal.sweep.folder, entry.id, marked_path)
    return marked_path


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Locks a folder against its writer and its shippers."""
    locks = [FileLock(path.with_suffix(".lock")) for path in (folder / "tracking").glob("*.json")]
    with process_lock.lock_folder(folder):
        try:
            for lock in locks:
                lock.acquire(timeout=0)
            yield
        except Timeout as error:
            raise RunsFolderError(f"{folder} is being delivered to a tracker; try again after the delivery") from error
        finally:
            for lock in locks:
                lock.release()


def _remove_folder_from_ledger(sweep_folder: Path, run_id: str, marked_path: Path) -> None:
    """Removes the folder of a trial from the ledger; keeps its result, or resets an unfinished trial to WAITING."""
    ledger = Ledger(sweep_folder)
    for trial in ledger.read_trials():
        if trial.run_id == run_id and trial.folder is not None:
            updated_trial = replace(trial, folder=str(marked_path)).read_current_state()
            if updated_trial.status in (RUNNING, INTERRUPTED, KILLED):  # not running: this process holds its lock
                updated_trial = replace(updated_trial, status=WAITING, run_id=None)
            ledger.write(replace(updated_trial, folder=None))


def find_unfinished(root: Path) -> list[Path]:
    """Finds folders of deletions that were not completed."""
    patterns = ("*/", "*/*/trials/")
    entry_folders = [path for pattern in patterns for path in root.glob(f"{pattern}{DELETED_PREFIX}*")]
    checkpoint_folders = [
        path
        for pattern in ("*/*/", "*/*/trials/*/")
        for path in root.glob(f"{pattern}{DELETED_PREFIX}{checkpoints.FOLDER}")
    ]
    return sorted(
        path for path in {*entry_folders, *checkpoint_folders} if not path.is_symlink() and not path.parent.is_symlink()
    )


def read_marked_entry(marked_path: Path) -> IndexEntry | None:
    """Returns the run or sweep of a renamed folder; None if it was deleted from the trackers or has no journal."""
    try:
        return run_index.read_entry(marked_path)
    except (JournalError, KeyError, NotADirectoryError):
        return run_index.make_damaged_entry(marked_path) if (marked_path / journal.NAME).exists() else None


def complete_ledger(marked_path: Path) -> None:
    """Updates the sweep's ledger for a deleted trial, in case a killed process did not."""
    entry, sweep = read_marked_entry(marked_path), marked_path.parent.parent
    if entry is not None and marked_path.parent.name == "trials" and (sweep / journal.NAME).exists():
        with suppress(JournalError):
            _remove_folder_from_ledger(sweep, entry.id, marked_path)


def remove_folder(marked_path: Path) -> None:
    """Deletes the folder, its journal first: without a journal, the trackers are not asked again.

    Raises:
        OSError: if the folder cannot be deleted.
    """
    (marked_path / journal.NAME).unlink(missing_ok=True)
    shutil.rmtree(marked_path)
    with suppress(OSError):  # the folder contains other runs
        if marked_path.parent.name != "trials":
            marked_path.parent.rmdir()  # folder of the day


def reduce_to_journal(marked_path: Path) -> None:
    """Deletes all files except those for a later deletion from the trackers."""
    for path in marked_path.iterdir():
        if path.name in (journal.NAME, "tracking"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
