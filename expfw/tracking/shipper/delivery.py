"""Delivery of one journal to one tracker: its progress, stored on disk, and its retries."""

from __future__ import annotations

import json
import logging
import textwrap
import time
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


class Backoff:
    """Time of the next attempt; the pause doubles after each failure, from 0.5 s to 8 s.

    Attributes:
        pause: current pause in seconds.
        next_try: time of the next attempt, by `time.monotonic`.
        last_error: last error in one line; None after a success.
        waits_for_other: whether the tracker raised a LookupError: records of another journal must be delivered first.
    """

    def __init__(self) -> None:
        self.pause = 0.0
        self.next_try = 0.0
        self.last_error: str | None = None
        self.waits_for_other = False

    def is_due(self) -> bool:
        return time.monotonic() >= self.next_try

    def record_failure(self, subject: str, error: BaseException) -> None:
        """Schedules the next attempt and logs the exception; must be called in an `except` block."""
        self.pause = min(LONGEST_PAUSE_SECONDS, max(0.5, self.pause * 2))
        self.next_try = time.monotonic() + self.pause
        self.waits_for_other = type(error) is LookupError
        kind = "" if isinstance(error, ConnectionError) else f"{type(error).__name__}: "
        self.last_error = textwrap.shorten(to_one_line(f"{kind}{error}"), 200, placeholder=" ...")
        log.exception("%s: next attempt in %.1f s", subject, self.pause)

    def retry_if_waiting(self) -> None:
        """Retries at once if this delivery waits for records of another journal."""
        if self.waits_for_other:
            self.next_try = 0.0

    def record_success(self) -> None:
        self.pause = 0.0
        self.last_error = None
        self.waits_for_other = False


class Delivery:
    """Delivery of one journal to one tracker.

    The state of the tracker belongs to one destination; a new destination gets the journal from the beginning.

    Args:
        name: name of the tracker.
        tracker: the tracker.
        folder: folder of the run or sweep.
        destination: see `Tracker.destination`.
        from_beginning: whether to deliver the whole journal again to a destination that has lost it.

    Raises:
        Timeout: if another process delivers this journal.
    """

    def __init__(
        self, name: str, tracker: Tracker, folder: Path, destination: str = "", from_beginning: bool = False
    ) -> None:
        self.tracker = tracker
        self.folder = folder
        self.journal_path = folder / journal.NAME
        self.offset = 0
        self.state: dict[str, Any] = {}
        self.is_complete = False
        self.backoff = Backoff()
        self._destination = destination
        self._file = get_progress_path(folder, name)
        self._file.parent.mkdir(exist_ok=True)
        self._lock = FileLock(self._file.with_suffix(".lock"))
        self._lock.acquire(timeout=0)
        progress = read_progress(folder, name)
        if progress.get("destination") == destination and not from_beginning:
            self.offset, self.state = journal.find_line_start(self.journal_path, progress["offset"]), progress["state"]

    def deliver_when_due(self) -> bool:
        """Delivers a portion of the new records if an attempt is due; returns whether records were delivered.

        An exception of the tracker delays this journal only.

        Raises:
            ConnectionError: if the tracker cannot be reached, for any journal.
        """
        if self.is_complete or not self.backoff.is_due():
            return False
        try:
            delivered = self.deliver_portion()
        except ConnectionError:
            raise
        except (Exception, SystemExit) as error:  # a tracker must not end this process
            self.backoff.record_failure(str(self.folder), error)
            return False
        self.backoff.record_success()
        return delivered

    def deliver_portion(self) -> bool:
        """Delivers a portion of the new records; returns whether there were any. Raises the errors of the tracker.

        The first record is delivered alone, so that the state of the tracker is saved as soon as it creates a run.
        """
        has_delivered_first = self.offset == 0 and self._deliver_records(1)
        return (not self.is_complete and self._deliver_records(PORTION_BYTES)) or has_delivered_first

    def _deliver_records(self, limit: int) -> bool:
        is_alive = process_lock.has_live_process(self.folder)  # before reading, so that its last records are read too
        if self.journal_path.stat().st_size > self.offset:
            atomic_files.sync_to_disk(self.journal_path)  # a power failure must not undo delivered records
        records, next_offset = journal.read_records(self.journal_path, self.offset, limit)
        last_record = journal.read_first_and_last(self.journal_path)[1]
        has_ended = last_record["kind"] in journal.END_KINDS and (not records or records[-1] == last_record)
        if not records and not has_ended and not is_alive:
            records = [{"kind": "interrupted", "time": time.time()}]  # the process was killed before it wrote an end
            has_ended = True
        if records:
            self.tracker.ship(self.folder, self.state, records)
            self._save_progress(next_offset, has_ended)
            self.offset = next_offset  # after saving: if that fails, the records are delivered again
        if has_ended:
            self.is_complete = True
            self._lock.release()
        return bool(records)

    def _save_progress(self, offset: int, complete: bool) -> None:
        progress = {"offset": offset, "complete": complete, "destination": self._destination, "state": self.state}
        atomic_files.write_text(self._file, json.dumps(progress))


def get_progress_path(folder: Path, name: str) -> Path:
    """Returns the file with the progress of the delivery to the tracker `name`."""
    return folder / "tracking" / f"{name}.json"


def read_progress(folder: Path, name: str) -> dict[str, Any]:
    """Reads the progress of a delivery; empty if nothing is delivered yet."""
    path = get_progress_path(folder, name)
    progress: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return progress


def describe_progress(folder: Path) -> dict[str, str]:
    """Returns the progress of each tracker that has received records of the journal, as text."""
    size = (folder / journal.NAME).stat().st_size
    texts = {}
    for path in sorted((folder / "tracking").glob("*.json")):
        progress = read_progress(folder, path.stem)
        bytes_left = max(0, size - progress["offset"])
        texts[path.stem] = (
            COMPLETE
            if progress.get("complete") and not bytes_left
            else f"{bytes_left:,} bytes of the journal not delivered yet"
        )
    return texts


def is_complete(folder: Path, name: str, destination: str) -> bool:
    """Returns whether the destination has the whole journal."""
    progress = read_progress(folder, name)
    has_whole_journal = progress.get("complete") and progress["offset"] >= (folder / journal.NAME).stat().st_size
    return bool(has_whole_journal) and progress["destination"] == destination
