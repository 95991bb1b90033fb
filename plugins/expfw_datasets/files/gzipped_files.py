"""Files that may be gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

from expfw import DataError

_CHUNK_BYTES = 1 << 20


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


@contextmanager
def open_maybe_gzipped(path: Path, description: str) -> Iterator[tuple[BufferedIOBase, bool]]:
    """Opens a file, decompressed if its first bytes are those of gzip; the file name does not matter.

    Yields the open file, and whether it is gzipped. Raises a `DataError` that names the expected format, `description`,
    if the file cannot be read or is damaged.
    """
    try:
        with open(path, "rb") as raw:
            is_gzipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_gzipped else open(path, "rb") as file:
            yield file, is_gzipped
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); download it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; expected {description}") from error


def read_at_most(file: IO[bytes] | BufferedIOBase, count: int) -> bytes:
    """Reads up to `count` bytes in chunks, so that a wrong count in a header does not allocate too much memory."""
    body = bytearray()
    while len(body) < count and (chunk := file.read(min(_CHUNK_BYTES, count - len(body)))):
        body += chunk
    return bytes(body)
