"""Files that may be gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from expfw import DataError

_CHUNK_BYTES = 1 << 20


@contextmanager
def open_maybe_gzipped(path: Path, description: str) -> Iterator[tuple[BufferedIOBase, bool]]:
    """The file for reading its content, and whether it is gzipped: it is where it begins so, whatever its name.

    Args:
        description: is expected there, for errors.

    Raises:
        DataError: what reading raised.
    """
    try:
        with open(path, "rb") as raw:
            is_gzipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_gzipped else open(path, "rb") as file:
            yield file, is_gzipped
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected {description} there") from error


def read_at_most(file: IO[bytes] | BufferedIOBase, count: int) -> bytes:
    """The next bytes, in portions: a number that is wrong must not make us ask for the memory it claims."""
    body = bytearray()
    while len(body) < count and (chunk := file.read(min(_CHUNK_BYTES, count - len(body)))):
        body += chunk
    return bytes(body)
