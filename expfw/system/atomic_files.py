"""Atomic writes of files and folders that also survive a power failure."""

from __future__ import annotations

import locale
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replaces a file atomically: writes a temporary file, syncs it to disk, then renames it.

    Raises:
        OSError: if the disk is full or cannot be written; an existing file stays unchanged.
    """
    write_bytes(path, text.encode(locale.getencoding()))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file atomically; see `write_text`."""
    temporary_path = path.with_name(f".{path.name}.new")
    temporary_path.unlink(missing_ok=True)  # it could be a link to another file
    temporary_path.write_bytes(data)
    sync_to_disk(temporary_path)
    temporary_path.replace(path)
    sync_to_disk(path.parent)


def move_folder(temporary_folder: Path, folder: Path) -> None:
    """Syncs a folder with its files to disk, then renames it."""
    for path in (*temporary_folder.rglob("*"), temporary_folder):
        sync_to_disk(path)
    temporary_folder.rename(folder)
    sync_to_disk(folder.parent)


def sync_to_disk(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
