"""How something is deleted: it loses its name first, so that it is there for everybody or for nobody.

What has no name any more is taken out of the trackers, then off the disk. A process that is killed in between leaves
a folder `.deleted-...`, which nobody lists, and which the next `expfw runs clean` finishes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from expfw.api import checkpoints
from expfw.api.run import KILLED
from expfw.cli.runs.clean.selection import Removal
from expfw.errors import JournalError, RunsFolderError
from expfw.system import atomic_files, process_lock
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import WAITING, Ledger
from expfw.tracking.run_index import DELETED_PREFIX, INTERRUPTED, RUNNING, IndexEntry


def mark_deleted(removal: Removal) -> Path:
    """Takes its name from what is to be deleted; the ledger of a sweep that stays keeps what became of the trial.

    Raises:
        RunsFolderError: somebody writes there at this moment, delivers it, or it cannot be renamed.
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
            raise RunsFolderError(f"{removal.path} cannot be deleted ({error.strerror})") from error
        if removal.sweep is not None and removal.is_whole_folder:
            _remove_folder_from_ledger(removal.sweep.folder, entry.id, marked_path)
    return marked_path


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Keeps the writer and the shippers of a folder away."""
    locks = [FileLock(path.with_suffix(".lock")) for path in (folder / "tracking").glob("*.json")]
    with process_lock.lock_folder(folder):
        try:
            for lock in locks:
                lock.acquire(timeout=0)
            yield
        except Timeout as error:
            raise RunsFolderError(
                f"{folder} is being delivered to a tracker at this moment; try again when that is done"
            ) from error
        finally:
            for lock in locks:
                lock.release()


def _remove_folder_from_ledger(sweep_folder: Path, run_id: str, marked_path: Path) -> None:
    """The ledger keeps a trial's result without its folder; one that could have gone on waits to be made anew."""
    ledger = Ledger(sweep_folder)
    for trial in ledger.read_trials():
        if trial.run_id == run_id and trial.folder is not None:
            updated_trial = replace(trial, folder=str(marked_path)).read_current_state()
            if updated_trial.status in (RUNNING, INTERRUPTED, KILLED):  # it does not run: we have its folder
                updated_trial = replace(updated_trial, status=WAITING, run_id=None)
            ledger.write(replace(updated_trial, folder=None))


def find_unfinished(root: Path) -> list[Path]:
    """What has lost its name and is still there."""
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
    """The run or sweep that it was, for trackers; None where they have nothing of it any more, or nobody can tell."""
    try:
        return run_index.read_entry(marked_path)
    except (JournalError, KeyError, NotADirectoryError):
        return run_index.make_damaged_entry(marked_path) if (marked_path / journal.NAME).exists() else None


def complete_ledger(marked_path: Path) -> None:
    """Completes what a killed process may have left undone in the ledger of a trial's sweep."""
    entry, sweep = read_marked_entry(marked_path), marked_path.parent.parent
    if entry is not None and marked_path.parent.name == "trials" and (sweep / journal.NAME).exists():
        with suppress(JournalError):
            _remove_folder_from_ledger(sweep, entry.id, marked_path)


def remove_folder(marked_path: Path) -> None:
    """Takes it off the disk, the journal first: without it no tracker is asked any more.

    Raises:
        OSError: it cannot be removed.
    """
    (marked_path / journal.NAME).unlink(missing_ok=True)
    shutil.rmtree(marked_path)
    with suppress(OSError):  # others are in it
        if marked_path.parent.name != "trials":
            marked_path.parent.rmdir()  # the folder of a day


def reduce_to_journal(marked_path: Path) -> None:
    """Frees the disk of all but what is needed to ask the trackers later."""
    for path in marked_path.iterdir():
        if path.name in (journal.NAME, "tracking"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
