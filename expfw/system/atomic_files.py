"""Files that are there as a whole or not at all, also after the machine lost its power."""

from __future__ import annotations

import locale
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes beside, forces to disk, then puts it in the place of what was there.

    Raises:
        OSError: the disk is full, or cannot be written; what was there stays.
    """
    write_bytes(path, text.encode(locale.getencoding()))


def write_bytes(path: Path, data: bytes) -> None:
    """The same for bytes."""
    temporary_path = path.with_name(f".{path.name}.new")
    temporary_path.write_bytes(data)
    sync_to_disk(temporary_path)
    temporary_path.replace(path)
    sync_to_disk(path.parent)


def move_folder(temporary_folder: Path, folder: Path) -> None:
    """Forces a folder with its files to disk, then gives it its name."""
    for path in (*temporary_folder.rglob("*"), temporary_folder):
        sync_to_disk(path)
    temporary_folder.rename(folder)
    sync_to_disk(folder.parent)


def sync_to_disk(path: Path) -> None:
    """Waits until what was written to a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
