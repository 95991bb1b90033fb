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
from expfw.tracking.run_index import DELETED, INTERRUPTED, RUNNING, Entry


def mark(removal: Removal) -> Path:
    """Takes its name from what is to be deleted; the ledger of a sweep that stays keeps what became of the trial.

    Raises:
        RunsFolderError: somebody writes there at this moment, delivers it, or it cannot be renamed.
    """
    entry = removal.entry
    marked = removal.path.with_name(f"{DELETED}{removal.path.name}")
    with ExitStack() as held:
        if removal.sweep is not None:
            held.enter_context(process_lock.occupied(removal.sweep.folder))
        for one in (entry, *removal.trials):
            held.enter_context(_free(one.folder))
        try:
            removal.path.rename(marked)
            atomic_files.to_disk(marked.parent)
        except OSError as error:
            raise RunsFolderError(f"{removal.path} cannot be deleted ({error.strerror})") from error
        if removal.sweep is not None and removal.whole:
            _forget_trial(removal.sweep.folder, entry.id, marked)
    return marked


@contextmanager
def _free(folder: Path) -> Iterator[None]:
    """Keeps the writer and the shippers of a folder away."""
    locks = [FileLock(path.with_suffix(".lock")) for path in (folder / "tracking").glob("*.json")]
    with process_lock.occupied(folder):
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


def _forget_trial(sweep_folder: Path, run_id: str, marked: Path) -> None:
    """The ledger keeps a trial's result without its folder; one that could have gone on waits to be made anew."""
    ledger = Ledger(sweep_folder)
    for trial in ledger.trials():
        if trial.run_id == run_id and trial.folder is not None:
            now = replace(trial, folder=str(marked)).now()
            if now.status in (RUNNING, INTERRUPTED, KILLED):  # it does not run: we have its folder
                now = replace(now, status=WAITING, run_id=None)
            ledger.write(replace(now, folder=None))


def unfinished(root: Path) -> list[Path]:
    """What has lost its name and is still there."""
    deep = ("*/", "*/*/trials/")
    found = [path for below in deep for path in root.glob(f"{below}{DELETED}*")]
    inner = [path for below in ("*/*/", "*/*/trials/*/") for path in root.glob(f"{below}{DELETED}{checkpoints.FOLDER}")]
    return sorted(path for path in {*found, *inner} if not path.is_symlink() and not path.parent.is_symlink())


def known(marked: Path) -> Entry | None:
    """The run or sweep that it was, for trackers; None where they have nothing of it any more, or nobody can tell."""
    try:
        return run_index.entry(marked)
    except (JournalError, KeyError, NotADirectoryError):
        return run_index.damaged(marked) if (marked / journal.NAME).exists() else None


def settle_ledger(marked: Path) -> None:
    """Completes what a killed process may have left undone in the ledger of a trial's sweep."""
    entry, sweep = known(marked), marked.parent.parent
    if entry is not None and marked.parent.name == "trials" and (sweep / journal.NAME).exists():
        with suppress(JournalError):
            _forget_trial(sweep, entry.id, marked)


def remove(marked: Path) -> None:
    """Takes it off the disk, the journal first: without it no tracker is asked any more.

    Raises:
        OSError: it cannot be removed.
    """
    (marked / journal.NAME).unlink(missing_ok=True)
    shutil.rmtree(marked)
    with suppress(OSError):  # others are in it
        if marked.parent.name != "trials":
            marked.parent.rmdir()  # the folder of a day


def reduce(marked: Path) -> None:
    """Frees the disk of all but what is needed to ask the trackers later."""
    for path in marked.iterdir():
        if path.name in (journal.NAME, "tracking"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
