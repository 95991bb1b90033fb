"""Temporary folders. A killed process cannot delete its own; the next process that creates one deletes them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from expfw.errors import RunsFolderError

LOCK_FILE = ".in-use.lock"
_PREFIX = "expfw-"
_EXIT_PRIORITY = -200
"""Lower than that of multiprocessing's own temporary files, -100."""


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Creates a folder in `parent` and deletes it at the end of the context."""
    folder, descriptor = _make_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@cache
def get_process_folder(parent: str | None = None) -> Path:
    """Returns the folder for the temporary files of this process, which is deleted when the process ends.

    It is in `parent`, or in the folder for temporary files of the system.

    Raises:
        RunsFolderError: if it cannot be written.
    """
    try:
        folder, _ = _make_folder(Path(parent or tempfile.gettempdir()), _PREFIX)
    except OSError as error:
        raise RunsFolderError(
            f"cannot write temporary files: {error.strerror}: {error.filename}; free some space, or set the "
            "environment variable TMPDIR to another folder"
        ) from error
    with suppress(OSError):
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)  # systemd deletes old folders that are not locked
    # Not with `atexit`: multiprocessing deletes its own files in the folder first.
    Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=_EXIT_PRIORITY)
    return folder


def use_process_folder() -> None:
    """Makes Python's `tempfile` use the folder of this process, if it can be written."""
    with suppress(RunsFolderError):
        tempfile.tempdir = str(get_process_folder())


def _make_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    remove_abandoned(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    return folder, mark_used(folder)


def mark_used(folder: Path) -> int:
    """Marks a folder as used until this process ends; returns the descriptor of the lock, which a child may inherit.

    Several processes may use a folder.
    """
    path = folder / LOCK_FILE
    new_path = path if path.exists() else folder / f"{LOCK_FILE}.new"
    descriptor = os.open(new_path, os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):  # without locks, the folder is never deleted by another process
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        new_path.rename(path)  # after it is locked: no other process sees an unlocked file
    return descriptor


def remove_abandoned(
    parent: Path, prefix: str = _PREFIX, is_needed: Callable[[Path], bool] = lambda folder: False
) -> None:
    """Deletes the folders in `parent` that processes of this user had marked as used, if all of them have ended.

    Folders that are needed are kept.
    """
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # another process has just deleted it
            is_own = not folder.is_symlink() and folder.is_dir() and folder.stat().st_uid == os.getuid()
            if is_own and (folder / LOCK_FILE).exists() and not is_used(folder) and not is_needed(folder):
                shutil.rmtree(folder, ignore_errors=True)


def is_used(folder: Path) -> bool:
    """Returns whether a process uses the folder, or this cannot be determined."""
    try:
        with open(folder / LOCK_FILE, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
