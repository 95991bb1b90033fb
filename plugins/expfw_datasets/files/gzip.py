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

_PORTION = 1 << 20


@contextmanager
def opened(path: Path, what: str) -> Iterator[tuple[BufferedIOBase, bool]]:
    """The file for reading its content, and whether it is gzipped: it is where it begins so, whatever its name.

    Args:
        what: is expected there, for errors.

    Raises:
        DataError: what reading raised.
    """
    try:
        with open(path, "rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            yield file, zipped
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected {what} there") from error


def read_at_most(file: IO[bytes] | BufferedIOBase, count: int) -> bytes:
    """The next bytes, in portions: a number that is wrong must not make us ask for the memory it claims."""
    body = bytearray()
    while len(body) < count and (part := file.read(min(_PORTION, count - len(body)))):
        body += part
    return bytes(body)
