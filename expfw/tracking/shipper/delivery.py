"""Delivery of journals to trackers: progress, which is stored on disk, and retries."""

from __future__ import annotations

import copy
import logging
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from expfw.api.contracts import Tracker
from expfw.api.delivery_progress import DeliveryProgress, get_progress_path, read_progress
from expfw.errors import JournalError, to_one_line
from expfw.redaction import redact_text
from expfw.system import atomic_files, process_lock
from expfw.system.contained_paths import resolve_inside, resolve_tree
from expfw.system.formatting import pluralize
from expfw.system.input_files import open_file
from expfw.tracking import journal
from expfw.tracking.run_folders import format_runs_dir_option

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
    """Delivery of the journal in `folder` to one tracker, by one process at a time.

    The state of the tracker belongs to one destination; a new destination gets the journal from the beginning, and so
    does a destination that has lost its data, with `from_beginning`.
    """

    def __init__(
        self, name: str, tracker: Tracker, folder: Path, destination: str = "", from_beginning: bool = False
    ) -> None:
        self.tracker, self.folder, self.journal_path = tracker, folder, folder / journal.NAME
        self._destination, self._from_beginning, self.has_begun = destination, from_beginning, False
        self.offset = 0
        self.state: dict[str, Any] = {}
        self.is_complete = False
        self.backoff = Backoff()
        self._name, self._lock = name, FileLock(get_progress_path(folder, name).with_suffix(".lock"))

    def deliver_portion(self, command_ended: bool = True) -> bool:
        """Delivers a portion of the new records; returns whether there were any.

        The first record is delivered alone, so that the state of the tracker is saved as soon as it creates a run.
        Raises the errors of the tracker, and `Timeout` if another process is delivering the journal. `command_ended` is
        False while the command runs that will record the end of a killed process.
        """
        if not self.has_begun:
            for name in (journal.NAME, get_progress_path(self.folder, self._name).parent.name):
                resolve_inside(self.folder, name)
            get_progress_path(self.folder, self._name).parent.mkdir(exist_ok=True)
            self._lock.acquire(timeout=0)
            progress = DeliveryProgress() if self._from_beginning else read_progress(self.folder, self._name)
            if progress.destination == self._destination:
                with open_file(self.journal_path) as file:
                    self.offset = journal.find_line_start(file.fileno(), progress.offset)
                self.state = progress.state
            self.has_begun = True
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
            state = copy.deepcopy(self.state)  # if this fails, nothing is counted twice
            self.tracker.ship(self.folder, state, list(self._select_safe_records(records, state)))
            DeliveryProgress(next_offset, has_ended, self._destination, state).write(self.folder, self._name)
            self.offset, self.state = next_offset, state  # after saving: if that fails, the records are delivered again
        if has_ended:
            self.is_complete = True
            self._lock.release(force=True)  # it may have been acquired several times
        return bool(records)

    def _select_safe_records(
        self, records: Iterable[journal.Record], state: dict[str, Any]
    ) -> Iterator[journal.Record]:
        """Yields the records for the tracker, without those whose path leads out of the folder."""
        for record in records:
            try:
                if "path" in record:
                    resolve_tree(self.folder, str(record["path"]))
            except JournalError as error:
                log.warning("a record %s is not delivered: %s", record["kind"], error)
                state.setdefault("rejected", f"{record['kind']}: {error}")
                continue
            if record.get("sweep_folder") is not None:  # it may have been moved
                record = {**record, "sweep_folder": str(self.folder.absolute().parents[1])}
            yield record


class TrackerWorker:
    """One tracker and its deliveries."""

    def __init__(self, name: str, tracker: Tracker, runs_dir: Path, from_beginning: bool = False) -> None:
        self.name, self.tracker, self.runs_dir, self.from_beginning = name, tracker, runs_dir, from_beginning
        self.is_open, self.destination = False, ""
        self.deliveries: dict[str, Delivery] = {}
        self.backoff = Backoff()

    def deliver(self, folders_by_id: Mapping[str, Path], command_ended: bool = True) -> bool:
        """Delivers new records; returns whether records were delivered. See `Delivery.deliver_portion`."""
        if not self.backoff.is_due():
            return False
        if not self.is_open:
            try:
                self.destination = redact_text(self.tracker.destination(self.runs_dir))
                self.tracker.open(self.runs_dir)
            except (Exception, SystemExit) as error:  # a tracker must not end this process
                self.backoff.record_failure(f"tracker {self.name}", error)
                return False
            self.is_open = True
        for journal_id, folder in folders_by_id.items():
            if journal_id not in self.deliveries:
                self.deliveries[journal_id] = Delivery(
                    self.name, self.tracker, folder, self.destination, self.from_beginning
                )
        delivered = False
        for journal_id, delivery in list(self.deliveries.items()):
            if delivery.is_complete or not delivery.backoff.is_due():
                continue
            try:
                delivered = delivery.deliver_portion(command_ended) or delivered
                delivery.backoff = Backoff()
            except ConnectionError as error:  # no journal can be delivered now; try this one last next time
                self.backoff.record_failure(f"tracker {self.name}", error)
                self.deliveries[journal_id] = self.deliveries.pop(journal_id)
                return delivered
            except (Exception, SystemExit) as error:  # delays this journal only
                if isinstance(error, Timeout) and not delivery.has_begun:
                    delivery.backoff.last_error = "another process is delivering it"
                else:
                    delivery.backoff.record_failure(str(delivery.folder), error)
        self.backoff = Backoff()
        for delivery in self.deliveries.values():
            if delivered and delivery.backoff.waits_for_other:  # perhaps for the records that were just delivered
                delivery.backoff.next_try = 0.0
        return delivered

    def list_undelivered(self, folders_by_id: Mapping[str, Path]) -> dict[str, str]:
        """Returns the folders with undelivered records, with the reason."""
        reasons = {}
        for journal_id, folder in folders_by_id.items():
            delivery = self.deliveries.get(journal_id)
            if delivery is None or not delivery.is_complete:
                delivery_error = delivery and delivery.backoff.last_error
                reasons[str(folder)] = self.backoff.last_error or delivery_error or "timeout"
        return reasons

    def describe_failures(self, folders_by_id: Mapping[str, Path], log_path: Path) -> Iterator[str]:
        """Yields a line about undelivered journals and one about records that it does not accept."""
        if undelivered := self.list_undelivered(folders_by_id):
            count = "one journal" if len(undelivered) == 1 else pluralize(len(undelivered), "journal")
            yield (
                f"expfw: {count} could not be delivered to {self.name} ({next(iter(undelivered.values()))}); no data "
                f"is lost; log: {log_path}; to deliver the rest: expfw runs "
                f"sync{format_runs_dir_option(self.runs_dir)}"
            )
        states = [(delivery.folder.name, delivery.state.get("rejected")) for delivery in self.deliveries.values()]
        if rejections := [f"{name}: {text}" for name, text in states if text]:
            more = f" (and {len(rejections) - 1} more runs)" if len(rejections) > 1 else ""
            yield (
                f"expfw: not delivered to {self.name}: {rejections[0]}{more}; the run's folder contains the data; "
                f"log: {log_path}"
            )


def describe_progress(folder: Path) -> dict[str, str]:
    """Returns the progress of each tracker that has received records of the journal, as text."""
    texts = {}
    for name in sorted(path.stem for path in (folder / "tracking").glob("*.json")):
        progress = read_progress(folder, name)
        bytes_left = max(0, (folder / journal.NAME).stat().st_size - progress.offset)
        is_complete = progress.complete and not bytes_left
        texts[name] = COMPLETE if is_complete else f"{bytes_left:,} bytes of the journal not delivered yet"
    return texts


def is_complete(folder: Path, name: str, destination: str) -> bool:
    """Returns whether the destination has the whole journal."""
    has_whole_journal = describe_progress(folder).get(name) == COMPLETE
    return has_whole_journal and read_progress(folder, name).destination == destination
