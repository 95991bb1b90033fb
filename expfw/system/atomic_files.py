"""Text files, without secrets, and writes of files and folders that are atomic and survive a power failure."""

from __future__ import annotations

import json
import locale
import os
from pathlib import Path
from typing import Any

from expfw.redaction import redact, redact_text
from expfw.system.json_values import encode_json


def write_text(path: Path, text: str, is_atomic: bool = True) -> None:
    """Replaces a text file; secrets in it are hidden.

    Args:
        is_atomic: whether to write a temporary file, sync it to disk, then rename it.

    Raises:
        OSError: if the disk is full or cannot be written; an existing file stays unchanged if `is_atomic`.
    """
    _write(path, redact_text(text), is_atomic)


def write_json(path: Path, values: Any, is_atomic: bool = True, indent: int | None = None) -> None:
    """Replaces a JSON file; secrets in its values are hidden. See `write_text`."""
    _write(path, encode_json(redact(values), indent), is_atomic)


def write_state(path: Path, values: Any, is_atomic: bool = True) -> None:
    """Replaces a JSON file with values of any type, which must be read as they were; secrets in them are hidden.

    Numbers that are not finite are written as Python does. Raises `TypeError` for other objects; see `write_text`.
    """
    _write(path, json.dumps(redact(values)), is_atomic)


def _write(path: Path, text: str, is_atomic: bool) -> None:
    data = text.encode(locale.getencoding(), "surrogateescape")  # a patch may contain other encodings
    if is_atomic:
        write_bytes(path, data)
    else:
        path.write_bytes(data)


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file atomically, as it is; see `write_text`."""
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
