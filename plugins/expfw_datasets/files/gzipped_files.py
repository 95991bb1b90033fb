"""Files that may be gzipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expfw import DataError


def find_file(folder: Path, name: str) -> Path | None:
    """Returns the file with this name, or with this name and the suffix `.gz`."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def require_file(folder: Path, name: str, expected: str) -> Path:
    """Returns the file of `find_file`; raises a `DataError` if it is missing."""
    if (file := find_file(folder, name)) is None:
        raise DataError(f"no {name} or {name}.gz in dataset.path={folder}; expected {expected}")
    return file


def describe_file(path: Path) -> list[Any]:
    """Returns what identifies the content of a file for `Dataset.identity`: path, size and modification time."""
    return [str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns]
