"""Delivery of one journal to one tracker: its progress, stored on disk, and its retries."""

from __future__ import annotations

import json
import logging
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from expfw.api.contracts import Tracker
from expfw.errors import to_one_line
from expfw.system import atomic_files, process_lock
from expfw.tracking import journal

PORTION_BYTES = 1 << 16
LONGEST_PAUSE_SECONDS = 8.0
COMPLETE = "complete"
log = logging.getLogger("expfw.shipper")


@dataclass
class Backoff:
    """Time of the next attempt; the pause doubles after each failure, from 0.5 s to 8 s."""

    pause: float = 0.0
    next_try: float = 0.0
    last_error: str | None = None
    waits_for_other: bool = False

    def is_due(self) -> bool:
        return time.monotonic() >= self.next_try

    def record_failure(self, subject: str, error: BaseException) -> None:
        """Schedules the next attempt and logs the exception; must be called in an `except` block."""
        self.pause = min(LONGEST_PAUSE_SECONDS, max(0.5, self.pause * 2))
        self.next_try = time.monotonic() + self.pause
        self.waits_for_other = type(error) is LookupError  # records of another journal must be delivered first
        kind = "" if isinstance(error, ConnectionError) else f"{type(error).__name__}: "
        self.last_error = textwrap.shorten(to_one_line(f"{kind}{error}"), 200, placeholder=" ...")
        log.exception("%s: next attempt in %.1f s", subject, self.pause)


class Delivery:
    """Delivery of the journal in `folder` to one tracker; raises `Timeout` if another process delivers it.

    The state of the tracker belongs to one destination; a new destination gets the journal from the beginning, and so
    does a destination that has lost its data, with `from_beginning`.
    """

    def __init__(
        self, name: str, tracker: Tracker, folder: Path, destination: str = "", from_beginning: bool = False
    ) -> None:
        self.tracker, self.folder, self._destination = tracker, folder, destination
        self.journal_path = folder / journal.NAME
        self.offset = 0
        self.state: dict[str, Any] = {}
        self.is_complete = False
        self.backoff = Backoff()
        self._file = _get_progress_path(folder, name)
        self._file.parent.mkdir(exist_ok=True)
        self._lock = FileLock(self._file.with_suffix(".lock"))
        self._lock.acquire(timeout=0)
        progress = read_progress(folder, name)
        if progress.get("destination") == destination and not from_beginning:
            self.offset, self.state = journal.find_line_start(self.journal_path, progress["offset"]), progress["state"]

    def deliver_portion(self, command_ended: bool = True) -> bool:
        """Delivers a portion of the new records; returns whether there were any. Raises the errors of the tracker.

        The first record is delivered alone, so that the state of the tracker is saved as soon as it creates a run.

        Args:
            command_ended: False while the command runs that will record the end of a killed process.
        """
        has_delivered_first = self.offset == 0 and self._deliver_records(1, command_ended)
        return (not self.is_complete and self._deliver_records(PORTION_BYTES, command_ended)) or has_delivered_first

    def _deliver_records(self, limit: int, command_ended: bool) -> bool:
        is_alive = process_lock.has_live_process(self.folder)  # before reading, so that its last records are read too
        if self.journal_path.stat().st_size > self.offset:
            atomic_files.sync_to_disk(self.journal_path)  # a power failure must not undo delivered records
        records, next_offset = journal.read_records(self.journal_path, self.offset, limit)
        last_record = journal.read_first_and_last(self.journal_path)[1]
        has_ended = last_record["kind"] in journal.END_KINDS and (not records or records[-1] == last_record)
        if not records and not has_ended and not is_alive and command_ended:
            records = [{"kind": "interrupted", "time": time.time()}]  # the process was killed before it wrote an end
            has_ended = True
        if records:
            self.tracker.ship(self.folder, self.state, records)
            progress = {"offset": next_offset, "complete": has_ended, "destination": self._destination}
            atomic_files.write_text(self._file, json.dumps({**progress, "state": self.state}))
            self.offset = next_offset  # after saving: if that fails, the records are delivered again
        if has_ended:
            self.is_complete = True
            self._lock.release()
        return bool(records)


def _get_progress_path(folder: Path, name: str) -> Path:
    return folder / "tracking" / f"{name}.json"


def read_progress(folder: Path, name: str) -> dict[str, Any]:
    """Reads the progress of a delivery; empty if nothing is delivered yet."""
    path = _get_progress_path(folder, name)
    progress: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return progress


def describe_progress(folder: Path) -> dict[str, str]:
    """Returns the progress of each tracker that has received records of the journal, as text."""
    texts = {}
    for name in sorted(path.stem for path in (folder / "tracking").glob("*.json")):
        progress = read_progress(folder, name)
        bytes_left = max(0, (folder / journal.NAME).stat().st_size - progress["offset"])
        is_complete = progress.get("complete") and not bytes_left
        texts[name] = COMPLETE if is_complete else f"{bytes_left:,} bytes of the journal not delivered yet"
    return texts


def is_complete(folder: Path, name: str, destination: str) -> bool:
    """Returns whether the destination has the whole journal."""
    has_whole_journal = describe_progress(folder).get(name) == COMPLETE
    return has_whole_journal and bool(read_progress(folder, name)["destination"] == destination)
