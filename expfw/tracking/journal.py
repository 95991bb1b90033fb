"""The journal: an append-only file, one JSON record per line, that is the truth about a run or a sweep."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from expfw.errors import JournalError, RunsFolderError
from expfw.redaction import without

NAME = "journal.jsonl"
ENDS = ("run_ended", "sweep_ended")
"""Kinds of the record that ends a journal."""
_FLUSH_AFTER_SECONDS = 0.5
_FLUSH_AFTER_RECORDS = 256
_MOST_WAITING_BYTES = 64 << 20
_WINDOW_BYTES = 1 << 16
Record = dict[str, Any]


class Journal:
    """Writes records; what was flushed survives the death of the process.

    Each record gets `kind` and `time` (seconds since 1970, never less than in the record before, whatever the clock).
    Texts in `secrets`, which an error may quote, are hidden. Records are handed to the system in batches; `flush` says
    now. Nothing here ever waits for a tracker.

    A journal that is there already goes on; a torn last line, of a process that died, is cut off. On a full disk the
    records wait in memory, and nobody is stopped for it; `trouble` says so.

    Attributes:
        trouble: what the system said when records could last not be written; None once they are.
    """

    def __init__(self, path: Path, secrets: Iterable[str] = ()) -> None:
        self.path = path
        self._secrets = [json.dumps(text)[1:-1] for text in secrets]
        self.trouble: OSError | None = None
        self._flushed = time.monotonic()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RunsFolderError(f"{path} cannot be written ({error.strerror})") from error
        self._time = self._go_on()
        # Records to come, bytes to come, bytes on disk: replaced at once, since a signal may raise between two lines.
        self._place: tuple[list[str], bytes, int] = ([], b"", os.fstat(self._file).st_size)

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one record; values must be JSON values, paths are written as text."""
        self._time = max(self._time, time.time())
        lines = self._place[0]
        lines.append(without(json.dumps({"kind": kind, "time": self._time, **fields}, default=str), self._secrets))
        if len(lines) >= _FLUSH_AFTER_RECORDS or time.monotonic() - self._flushed > _FLUSH_AFTER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hands everything written so far to the operating system.

        Raises:
            RunsFolderError: so much waits for room on the disk that it would be too much for the memory.
        """
        lines, waiting, written = self._place
        if lines:
            self._place = ([], waiting + ("\n".join(lines) + "\n").encode(), written)
        try:
            while self._waiting:
                os.write(self._file, self._waiting)  # may take less than it is given
            self.trouble = None
        except OSError as error:
            self.trouble = error
            if len(self._waiting) > _MOST_WAITING_BYTES:
                raise self._lacking(error) from error
        self._flushed = time.monotonic()

    @property
    def _waiting(self) -> bytes:
        """What is not in the file yet, by the size that the file has now."""
        lines, waiting, written = self._place
        size = os.fstat(self._file).st_size
        if size > written:
            waiting = waiting[size - written :]
            self._place = (lines, waiting, size)
        return waiting

    def flushed(self) -> Path:
        """Where it can be read, with all that was written so far."""
        self.flush()
        return self.path

    def position(self) -> int:
        """How many bytes it has, with all that was written so far."""
        self.flush()
        return os.fstat(self._file).st_size + len(self._waiting)

    def sync(self, size: int = 0) -> None:
        """Forces what was flushed to disk; may be called by another thread.

        Raises:
            OSError: it cannot be written, or has not yet so many bytes.
        """
        os.fsync(self._file)
        if os.fstat(self._file).st_size < size:
            raise self.trouble or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        """Flushes, forces to disk, closes.

        Raises:
            RunsFolderError: not all could be written.
        """
        try:
            self.flush()
            self.sync()
            if self.trouble is not None:
                raise self._lacking(self.trouble)
        except OSError as error:
            raise self._lacking(error) from error
        finally:
            os.close(self._file)

    def _lacking(self, error: OSError) -> RunsFolderError:
        made = RunsFolderError(
            f"{self.path} lacks its last {len(self._waiting)} bytes ({error.strerror}); make room, then "
            "`expfw runs resume` does again what is not recorded"
        )
        made.exit_code = 1
        return made

    def _go_on(self) -> float:
        """Cuts off a torn last line; returns the time of the last record."""
        if os.fstat(self._file).st_size == 0:
            return 0.0
        end = _end_of_last_line(self._file, os.fstat(self._file).st_size)
        os.ftruncate(self._file, end)
        time_of_last = first_and_last(self.path)[1].get("time") if end else None
        return time_of_last if isinstance(time_of_last, float) else 0.0

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end_of_last_line(file: int, end: int) -> int:
    while end > 0:
        start = max(0, end - _WINDOW_BYTES)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def line_start(path: Path, offset: int) -> int:
    """The nearest place up to `offset` at which a line begins; `offset` itself, unless the journal lost its end."""
    with open(path, "rb") as file:
        offset = min(offset, file.seek(0, os.SEEK_END))
        return _end_of_last_line(file.fileno(), offset)


def read(path: Path, offset: int = 0, limit: int = -1) -> tuple[list[Record], int]:
    """The complete records from byte `offset` on, and the offset behind them.

    A `series`, which holds the values of metrics at consecutive steps, comes as a record `metrics` for each step.

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
        record = _record(path, line, offset)
        if record["kind"] == "series":
            yield from steps(record)
        else:
            yield record
        offset += len(line)


def steps(series: Record) -> Iterator[Record]:
    """A record `metrics` for each step of a record `series`."""
    columns = series["values"]
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        values = dict(zip(columns, row, strict=True))
        yield {**series, "kind": "metrics", "step": series["step"] + index, "values": values}


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


def points(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and values of all its metrics, in the order in which they were logged."""
    return _points(read(path)[0])


def points_in(data: bytes, path: Path, offset: int) -> Iterator[tuple[int, dict[str, float]]]:
    """The same of a part of a journal, whole lines that begin at byte `offset`."""
    return _points(_parsed(path, data, offset))


def _points(records: Iterable[Record]) -> Iterator[tuple[int, dict[str, float]]]:
    for record in records:
        if record["kind"] == "metrics":
            yield record["step"], record["values"]
