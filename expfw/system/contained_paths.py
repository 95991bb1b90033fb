"""Paths that come from a record: they must stay inside the folder of the record, also through symbolic links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from expfw.errors import JournalError, truncate_text


def resolve_inside(folder: Path, path: str | Path) -> Path:
    """Returns `folder / path`, which need not exist; see `resolve_tree` for all that is in it.

    Raises:
        JournalError: if it is outside of `folder`, or neither a file nor a folder.
    """
    return _resolve(folder, path, with_content=False)


def resolve_tree(folder: Path, path: str | Path = "") -> Path:
    """Like `resolve_inside`, but checks all files and folders in it, too."""
    return _resolve(folder, path, with_content=True)


def _resolve(folder: Path, path: str | Path, with_content: bool) -> Path:
    try:
        root, whole_path = folder.resolve(), folder / path
        _check(root, whole_path)
        for parent, folders, files in os.walk(whole_path) if with_content else ():
            for name in (*folders, *files):
                _check(root, Path(parent, name))
    except (OSError, RuntimeError, ValueError) as error:  # also a loop of links, a name with a null character
        reason = truncate_text(str(getattr(error, "strerror", None) or error), 300)
        subject = f"{truncate_text(repr(str(path)), 100)} in {folder}" if str(path) else str(folder)
        raise JournalError(f"cannot use {subject}: {reason}; expected files and folders inside of it") from error
    return whole_path


def _check(root: Path, path: Path) -> None:
    target = path.resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"{path} leads out of the folder, to {target}")
    if target.exists() and not (stat.S_ISREG(target.stat().st_mode) or target.is_dir()):
        raise ValueError(f"{path} is neither a file nor a folder")
