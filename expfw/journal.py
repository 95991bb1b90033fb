"""The journal: an append-only file, one JSON record per line, that is the truth about a run or a sweep."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from expfw.errors import JournalError

NAME = "journal.jsonl"
ENDS = ("run_ended", "sweep_ended")
"""Kinds of the record that ends a journal."""
_FLUSH_AFTER_SECONDS = 0.5
_FLUSH_AFTER_RECORDS = 256
Record = dict[str, Any]


class Journal:
    """Writes records; what was flushed survives the death of the process.

    Each record gets `kind` and `time` (seconds since 1970). Records are handed to the system in batches; `flush` says
    now. Nothing here ever waits for a tracker.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._flushed = time.monotonic()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one record; values must be JSON values, paths are written as text."""
        self._lines.append(json.dumps({"kind": kind, "time": time.time(), **fields}, default=str))
        if len(self._lines) >= _FLUSH_AFTER_RECORDS or time.monotonic() - self._flushed > _FLUSH_AFTER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        if self._lines:
            data = ("\n".join(self._lines) + "\n").encode()
            while data:  # a write may take less than it was given
                data = data[os.write(self._file, data) :]
            self._lines.clear()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes, forces to disk, closes."""
        self.flush()
        os.fsync(self._file)
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path, offset: int = 0, limit: int = -1) -> tuple[list[Record], int]:
    """The complete records from byte `offset` on, and the offset behind them.

    A last line without its end is left for the next time: it is being written, or its writer died.

    Args:
        limit: read about so many bytes, at least one record; without it, everything.

    Raises:
        JournalError: a complete line is not a record.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(limit)
            if b"\n" not in data:
                data += file.readline()
    except FileNotFoundError as error:
        raise JournalError(f"no journal at {path}") from error
    complete = data[: data.rfind(b"\n") + 1]
    return list(_parsed(path, complete, offset)), offset + len(complete)


def _parsed(path: Path, data: bytes, offset: int) -> Iterator[Record]:
    for line in data.splitlines(keepends=True):
        yield _record(path, line, offset)
        offset += len(line)


def _record(path: Path, line: bytes, offset: int) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path} is damaged at byte {offset}: that line is not a JSON record") from error
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise JournalError(f"{path} is damaged at byte {offset}: that line is no record with a kind")
    return record


def first_and_last(path: Path) -> tuple[Record, Record]:
    """The first and the last complete record, without reading what lies between.

    Raises:
        JournalError: there is no complete record.
    """
    try:
        with open(path, "rb") as file:
            first = file.readline()
            size = file.seek(0, os.SEEK_END)
            window = 4096
            while True:
                start = max(0, size - window)
                file.seek(start)
                tail = file.read(size - start)
                lines = tail[: tail.rfind(b"\n") + 1].splitlines(keepends=True)
                if start == 0 or len(lines) > 1:
                    break
                window *= 8
    except FileNotFoundError as error:
        raise JournalError(f"no journal at {path}") from error
    if not first.endswith(b"\n") or not lines:
        raise JournalError(f"{path} holds no complete record")
    return _record(path, first, 0), _record(path, lines[-1], size - len(lines[-1]))
