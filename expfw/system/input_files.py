"""The door for files that others may have written: only regular files, without waiting, and of limited size."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MAX_BYTES = 64 << 20
"""Largest file that is read as a whole, and longest line."""


def open_file(path: str | Path) -> BufferedReader:
    """Opens a file for reading bytes.

    Raises:
        OSError: also if it is a folder, a pipe, a socket or a device, which might wait or never end.
    """
    return open(os.fspath(path), "rb", opener=_open_regular_file)


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads a file; raises an `OSError` as `open_file` does, or if it is larger than `max_bytes`."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(path))
        return file.read()


def _open_regular_file(path: str, flags: int) -> int:
    if stat.S_ISREG(os.stat(path).st_mode):
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # it may have been replaced in between
            return descriptor
        os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)
