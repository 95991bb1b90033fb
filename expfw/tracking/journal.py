"""The journal: an append-only file with one JSON record per line, the source of truth of a run or sweep."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from expfw.api.result import Point
from expfw.errors import JournalError, RunsFolderError
from expfw.redaction import redact
from expfw.system import process_lock
from expfw.system.input_files import MAX_BYTES, open_file
from expfw.system.json_values import encode_json
from expfw.tracking.records import Record as Record
from expfw.tracking.records import parse_record

NAME = "journal.jsonl"
END_KINDS = ("run_ended", "sweep_ended")
"""Kinds of the last record of a complete journal."""
_NUMBER_KINDS = ("metrics", "series", "system")
"""Kinds of records that have no texts except names of metrics; they are not searched for secrets."""
_FLUSH_AFTER_SECONDS = 0.5
_FLUSH_AFTER_RECORDS = 256
_MAX_UNWRITTEN_BYTES = 64 << 20
_WINDOW_BYTES = 1 << 16
_TOO_LONG = f"a line is longer than {MAX_BYTES:,} bytes"


class Journal:
    """Writes records; flushed records survive if the process is killed.

    Each record gets `kind` and `time` (seconds since 1970; never less than in the previous record, even if the clock
    goes back). Secrets are hidden in all records. Records are passed to the operating system in batches; `flush` does
    it immediately. The journal never waits for a tracker.

    An existing journal is continued; the incomplete last line of a killed process is removed. While a journal is open,
    its file is locked: a second `Journal` of the same file raises `RunsFolderError`, also in another process. On a full
    disk the records stay in memory and the run continues; `write_error` is then the error of the last write, otherwise
    None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write_error: OSError | None = None
        self._flushed_at = time.monotonic()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RunsFolderError(f"cannot write {path}: {error.strerror}") from error
        try:
            process_lock.lock_file(self._file, path)
            end = find_line_start(self._file)
            os.ftruncate(self._file, end)
            self._last_time = float(read_first_and_last(path)[1].get("time", 0)) if end else 0.0
        except BaseException:
            os.close(self._file)
            raise
        # Records to encode, bytes to write, and how many of these bytes each write has written. A signal may raise an
        # exception between two statements, so one statement replaces all three.
        self._write_state: tuple[list[str], bytes, list[int]] = ([], b"", [])

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one record. Values must be JSON values; paths are written as text."""
        self._last_time = max(self._last_time, time.time())
        lines = self._write_state[0]
        line = encode_json({"kind": kind, "time": self._last_time, **fields})
        if kind not in _NUMBER_KINDS:
            line = json.dumps(redact(json.loads(line)))
        lines.append(line)
        if len(lines) >= _FLUSH_AFTER_RECORDS or time.monotonic() - self._flushed_at > _FLUSH_AFTER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Passes all records written so far to the operating system.

        Raises `RunsFolderError` if the disk is full and the unwritten records are too large to keep in memory.
        """
        if lines := self._write_state[0]:
            self._write_state = ([], self._unwritten_bytes + ("\n".join(lines) + "\n").encode(), [])
        try:
            while data := self._unwritten_bytes:  # a write may write only a part
                # One call, so that no signal is handled after the write and before the number of bytes is stored.
                self._write_state[2].extend(map(os.write, [self._file], [data]))
            self.write_error = None
        except OSError as error:
            self.write_error = error
            if len(self._unwritten_bytes) > _MAX_UNWRITTEN_BYTES:
                raise self._make_incomplete_error(error) from error
        self._flushed_at = time.monotonic()

    @property
    def _unwritten_bytes(self) -> bytes:
        """Bytes that are not in the file yet."""
        _, data, written_counts = self._write_state
        return data[sum(written_counts) :]

    def read_points(self) -> list[Point]:
        """Returns all points written so far."""
        self.flush()
        return select_points(read_records(self.path)[0])

    def get_size(self) -> int:
        """Returns the size in bytes, including records that are not on disk yet."""
        self.flush()
        return os.fstat(self._file).st_size + len(self._unwritten_bytes)

    def sync(self, size: int) -> None:
        """Forces flushed records to disk, from any thread; raises `OSError` if the file has less than `size` bytes."""
        os.fsync(self._file)
        if os.fstat(self._file).st_size < size:
            raise self.write_error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        """Forces all records to disk and closes the file; raises `RunsFolderError` if some could not be written."""
        try:
            self.sync(self.get_size())
        except OSError as error:
            raise self._make_incomplete_error(error) from error
        finally:
            process_lock.unlock_file(self._file)
            os.close(self._file)

    def _make_incomplete_error(self, error: OSError) -> RunsFolderError:
        incomplete_error = RunsFolderError(
            f"cannot write the last {len(self._unwritten_bytes)} bytes of {self.path}: {error.strerror}; free some "
            "space, then `expfw runs resume` repeats the steps that are not recorded"
        )
        incomplete_error.exit_code = 1
        return incomplete_error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def discard_record(kind: str, **fields: Any) -> None:
    """Accepts a record as `Journal.write` does and discards it; for a `Run` that must not write to its journal."""


def find_line_start(file: int, offset: int | None = None) -> int:
    """Returns the last position at which a line starts, at or before `offset` and the end of the open file."""
    size = os.fstat(file).st_size
    begin = end = size if offset is None else min(offset, size)
    while end > 0:
        start = max(0, end - _WINDOW_BYTES)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
        if begin - end > MAX_BYTES:
            raise OSError(errno.EFBIG, _TOO_LONG)
    return 0


def read_records(path: Path, offset: int = 0, limit: int = -1) -> tuple[list[Record], int]:
    """Returns the complete records from byte `offset` on, at which a line starts, and the offset after them.

    A `series` record, which contains metric values at consecutive steps, is returned as one `metrics` record per step.
    An incomplete last line is not returned: it is still being written, or its writer was killed. `limit` is the
    approximate number of bytes to read, but at least one record is read; without it, the whole file is read.

    Raises:
        JournalError: if there is no journal, or a complete line is not a record.
    """
    lines: list[bytes] = []
    end = offset
    with _open_journal(path) as file:
        file.seek(offset)
        while not lines or limit < 0 or end - offset < limit:
            line = file.readline(MAX_BYTES)
            if not line.endswith(b"\n"):
                if len(line) == MAX_BYTES:
                    raise JournalError(f"{path} is damaged at byte {end}: {_TOO_LONG}")
                break
            lines.append(line)
            end += len(line)
    return list(parse_records(path, b"".join(lines), offset)), end


@dataclass
class JournalTail:
    """Reads the records of a growing journal, each time from where it stopped."""

    path: Path
    offset: int = 0

    def read_new(self, limit: int = -1) -> list[Record]:
        """Returns the new complete records, of more than `limit` bytes the last ones; none if they cannot be read."""
        try:
            size = self.path.stat().st_size
            if self.offset and limit > 0 and size - self.offset > limit:
                with _open_journal(self.path) as file:
                    self.offset = find_line_start(file.fileno(), size - limit)
            records, self.offset = read_records(self.path, self.offset, limit)
        except (JournalError, OSError):
            return []
        return records


@contextmanager
def _open_journal(path: Path) -> Iterator[BufferedReader]:
    """Opens a journal; raises a `JournalError` if it is missing or cannot be read."""
    try:
        with open_file(path) as file:
            yield file
    except FileNotFoundError as error:
        raise JournalError(f"no journal at {path}") from error
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error


def parse_records(path: Path, data: bytes, offset: int) -> Iterator[Record]:
    """Yields the records in a part of a journal: whole lines that start at byte `offset`. See `read_records`."""
    for line in data.splitlines(keepends=True):
        record = _parse_record(path, line, offset)
        if record["kind"] == "series":
            yield from expand_series(record)
        else:
            yield record
        offset += len(line)


def expand_series(series: Record) -> Iterator[Record]:
    """Yields one `metrics` record for each step of a `series` record."""
    columns = series["values"]
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        values = dict(zip(columns, row, strict=True))
        yield {**series, "kind": "metrics", "step": series["step"] + index, "values": values}


def _parse_record(path: Path, line: bytes, offset: int) -> Record:
    try:
        return parse_record(line)
    except ValueError as error:
        raise JournalError(f"{path} is damaged at byte {offset}: {error}") from error


def read_first_and_last(path: Path) -> tuple[Record, Record]:
    """Returns the first and the last complete record without reading the records between them."""
    with _open_journal(path) as file:
        first = file.readline(MAX_BYTES)
        end = find_line_start(file.fileno())
        start = find_line_start(file.fileno(), end - 1)
        last = os.pread(file.fileno(), end - start, start)
    if not last:
        raise JournalError(f"{path} contains no complete record")
    return _parse_record(path, first, 0), _parse_record(path, last, start)


def select_points(records: Iterable[Record]) -> list[Point]:
    """Returns the points in these records, in the order in which they were logged."""
    return [Point(record["step"], record["values"]) for record in records if record["kind"] == "metrics"]
