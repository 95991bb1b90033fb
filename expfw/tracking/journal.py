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
from expfw.redaction import hide_secrets

NAME = "journal.jsonl"
END_KINDS = ("run_ended", "sweep_ended")
"""Kinds of the record that ends a journal."""
_FLUSH_AFTER_SECONDS = 0.5
_FLUSH_AFTER_RECORDS = 256
_MAX_UNWRITTEN_BYTES = 64 << 20
_WINDOW_BYTES = 1 << 16
Record = dict[str, Any]


class Journal:
    """Writes records; what was flushed survives the death of the process.

    Each record gets `kind` and `time` (seconds since 1970, never less than in the record before, whatever the clock).
    Texts in `secrets`, which an error may quote, are hidden. Records are handed to the system in batches; `flush` says
    now. Nothing here ever waits for a tracker.

    A journal that is there already goes on; a torn last line, of a process that died, is cut off. On a full disk the
    records wait in memory, and nobody is stopped for it; `write_error` says so.

    Attributes:
        write_error: what the system said when records could last not be written; None once they are.
    """

    def __init__(self, path: Path, secrets: Iterable[str] = ()) -> None:
        self.path = path
        self._secrets = [json.dumps(text)[1:-1] for text in secrets]
        self.write_error: OSError | None = None
        self._flushed_at = time.monotonic()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise RunsFolderError(f"{path} cannot be written ({error.strerror})") from error
        self._last_time = self._cut_torn_line()
        # Records to come, bytes to come, bytes on disk: replaced at once, since a signal may raise between two lines.
        self._write_state: tuple[list[str], bytes, int] = ([], b"", os.fstat(self._file).st_size)

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one record; values must be JSON values, paths are written as text."""
        self._last_time = max(self._last_time, time.time())
        lines = self._write_state[0]
        lines.append(
            hide_secrets(json.dumps({"kind": kind, "time": self._last_time, **fields}, default=str), self._secrets)
        )
        if len(lines) >= _FLUSH_AFTER_RECORDS or time.monotonic() - self._flushed_at > _FLUSH_AFTER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hands everything written so far to the operating system.

        Raises:
            RunsFolderError: so much waits for room on the disk that it would be too much for the memory.
        """
        lines, unwritten_bytes, size_on_disk = self._write_state
        if lines:
            self._write_state = ([], unwritten_bytes + ("\n".join(lines) + "\n").encode(), size_on_disk)
        try:
            while self._unwritten_bytes:
                os.write(self._file, self._unwritten_bytes)  # may take less than it is given
            self.write_error = None
        except OSError as error:
            self.write_error = error
            if len(self._unwritten_bytes) > _MAX_UNWRITTEN_BYTES:
                raise self._make_incomplete_error(error) from error
        self._flushed_at = time.monotonic()

    @property
    def _unwritten_bytes(self) -> bytes:
        """What is not in the file yet, by the size that the file has now."""
        lines, unwritten_bytes, size_on_disk = self._write_state
        size = os.fstat(self._file).st_size
        if size > size_on_disk:
            unwritten_bytes = unwritten_bytes[size - size_on_disk :]
            self._write_state = (lines, unwritten_bytes, size)
        return unwritten_bytes

    def get_flushed_path(self) -> Path:
        """Where it can be read, with all that was written so far."""
        self.flush()
        return self.path

    def get_size(self) -> int:
        """How many bytes it has, with all that was written so far."""
        self.flush()
        return os.fstat(self._file).st_size + len(self._unwritten_bytes)

    def sync(self, size: int = 0) -> None:
        """Forces what was flushed to disk; may be called by another thread.

        Raises:
            OSError: it cannot be written, or has not yet so many bytes.
        """
        os.fsync(self._file)
        if os.fstat(self._file).st_size < size:
            raise self.write_error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        """Flushes, forces to disk, closes.

        Raises:
            RunsFolderError: not all could be written.
        """
        try:
            self.flush()
            self.sync()
            if self.write_error is not None:
                raise self._make_incomplete_error(self.write_error)
        except OSError as error:
            raise self._make_incomplete_error(error) from error
        finally:
            os.close(self._file)

    def _make_incomplete_error(self, error: OSError) -> RunsFolderError:
        incomplete_error = RunsFolderError(
            f"{self.path} lacks its last {len(self._unwritten_bytes)} bytes ({error.strerror}); make room, then "
            "`expfw runs resume` does again what is not recorded"
        )
        incomplete_error.exit_code = 1
        return incomplete_error

    def _cut_torn_line(self) -> float:
        """Cuts off a torn last line; returns the time of the last record."""
        if os.fstat(self._file).st_size == 0:
            return 0.0
        end = _find_end_of_last_line(self._file, os.fstat(self._file).st_size)
        os.ftruncate(self._file, end)
        time_of_last = read_first_and_last(self.path)[1].get("time") if end else None
        return time_of_last if isinstance(time_of_last, float) else 0.0

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def discard_record(kind: str, **fields: Any) -> None:
    """Takes a record as `Journal.write` does and writes nothing: for a `Run` that has nothing new to record."""


def _find_end_of_last_line(file: int, end: int) -> int:
    while end > 0:
        start = max(0, end - _WINDOW_BYTES)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def find_line_start(path: Path, offset: int) -> int:
    """The nearest place up to `offset` at which a line begins; `offset` itself, unless the journal lost its end."""
    with open(path, "rb") as file:
        offset = min(offset, file.seek(0, os.SEEK_END))
        return _find_end_of_last_line(file.fileno(), offset)


def read_records(path: Path, offset: int = 0, limit: int = -1) -> tuple[list[Record], int]:
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
    return list(_parse_records(path, complete, offset)), offset + len(complete)


def _parse_records(path: Path, data: bytes, offset: int) -> Iterator[Record]:
    for line in data.splitlines(keepends=True):
        record = _parse_record(path, line, offset)
        if record["kind"] == "series":
            yield from expand_series(record)
        else:
            yield record
        offset += len(line)


def expand_series(series: Record) -> Iterator[Record]:
    """A record `metrics` for each step of a record `series`."""
    columns = series["values"]
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        values = dict(zip(columns, row, strict=True))
        yield {**series, "kind": "metrics", "step": series["step"] + index, "values": values}


def _parse_record(path: Path, line: bytes, offset: int) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path} is damaged at byte {offset}: that line is not a JSON record") from error
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise JournalError(f"{path} is damaged at byte {offset}: that line is no record with a kind")
    return record


def read_first_and_last(path: Path) -> tuple[Record, Record]:
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
    return _parse_record(path, first, 0), _parse_record(path, lines[-1], size - len(lines[-1]))


def read_points(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and values of all its metrics, in the order in which they were logged."""
    return _select_points(read_records(path)[0])


def parse_points(data: bytes, path: Path, offset: int) -> Iterator[tuple[int, dict[str, float]]]:
    """The same of a part of a journal, whole lines that begin at byte `offset`."""
    return _select_points(_parse_records(path, data, offset))


def _select_points(records: Iterable[Record]) -> Iterator[tuple[int, dict[str, float]]]:
    for record in records:
        if record["kind"] == "metrics":
            yield record["step"], record["values"]
