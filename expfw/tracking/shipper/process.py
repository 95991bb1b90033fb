"""The shipper: the process that delivers journals to trackers, so that training never waits for a tracker.

There is one shipper per `expfw` command. Notes in a folder announce journals to it. It stores the progress of each
delivery on disk and retries failed deliveries. It ends when the command has ended and everything is delivered, or when
no delivery succeeds for 20 s.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from filelock import Timeout

from expfw.api.contracts import Tracker
from expfw.config.freeze import build_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import to_one_line
from expfw.plugins.catalogue import get_catalogue
from expfw.system import atomic_files
from expfw.system.formatting import pluralize
from expfw.system.garbage_collection import import_modules
from expfw.tracking.run_folders import format_runs_dir_option
from expfw.tracking.shipper.delivery import Backoff, Delivery

POLL_SECONDS = 1.0
GIVE_UP_SECONDS = 20.0
LOG_FILE, RESULT_FILE = ".log", ".result"
log = logging.getLogger("expfw.shipper")


class CpuShare(NamedTuple):
    """Limit on the CPU time of the shipper while its command runs; afterwards there is no limit.

    Attributes:
        share: largest share of the time of one CPU core. An idle core is not free: two cores often share caches and
            arithmetic units.
        nice: niceness of the process, from 0 to 19.
    """

    share: float = 1.0
    nice: int = 0


RUN_CPU_SHARE = CpuShare(share=0.1, nice=19)
SWEEP_CPU_SHARE = CpuShare(nice=5)  # a delayed delivery would only make the end of the sweep longer
FULL_CPU_SHARE = CpuShare()


class TrackerWorker:
    """One tracker and its deliveries."""

    def __init__(self, name: str, tracker: Tracker, runs_dir: Path, from_beginning: bool = False) -> None:
        self.name, self.tracker, self.runs_dir, self.from_beginning = name, tracker, runs_dir, from_beginning
        self.is_open = False
        self.deliveries: dict[str, Delivery] = {}
        self.rejection_reasons: dict[str, str] = {}  # by ID of journals that are not delivered here
        self.backoff = Backoff()

    def deliver(self, folders_by_id: Mapping[str, Path], command_ended: bool = True) -> bool:
        """Delivers new records; returns whether records were delivered. See `Delivery.deliver_portion`."""
        if not self.backoff.is_due():
            return False
        if not self.is_open:
            try:
                self.tracker.open(self.runs_dir)
            except (Exception, SystemExit) as error:  # a tracker must not end this process
                self.backoff.record_failure(f"tracker {self.name}", error)
                return False
            self.is_open = True
        for journal_id, folder in folders_by_id.items():
            if journal_id not in self.deliveries:
                self._add_delivery(journal_id, folder)
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
                delivery.backoff.record_failure(str(delivery.folder), error)
        self.backoff = Backoff()
        for delivery in self.deliveries.values():
            if delivered and delivery.backoff.waits_for_other:  # perhaps for the records that were just delivered
                delivery.backoff.next_try = 0.0
        return delivered

    def _add_delivery(self, journal_id: str, folder: Path) -> None:
        try:
            destination = self.tracker.destination(self.runs_dir)
            self.deliveries[journal_id] = Delivery(self.name, self.tracker, folder, destination, self.from_beginning)
            self.rejection_reasons.pop(journal_id, None)
        except Exception as error:  # for example a damaged progress file; other journals are still delivered
            is_locked = isinstance(error, Timeout)
            reason = "another process is delivering it" if is_locked else f"{type(error).__name__}: {error}"
            if journal_id not in self.rejection_reasons:
                log.info("cannot deliver %s: %s", folder, reason, exc_info=None if is_locked else error)
            self.rejection_reasons[journal_id] = to_one_line(reason)

    def is_finished(self, folders_by_id: Mapping[str, Path]) -> bool:
        """Returns whether every announced journal is delivered to its end."""
        return not self.list_undelivered(folders_by_id)

    def list_undelivered(self, folders_by_id: Mapping[str, Path]) -> dict[str, str]:
        """Returns the folders with undelivered records, with the reason."""
        reasons = {}
        for journal_id, folder in folders_by_id.items():
            delivery = self.deliveries.get(journal_id)
            if delivery is None or not delivery.is_complete:
                delivery_error = delivery and delivery.backoff.last_error
                rejection_reason = self.rejection_reasons.get(journal_id)
                reasons[str(folder)] = self.backoff.last_error or delivery_error or rejection_reason or "timeout"
        return reasons

    def describe_failures(self, folders_by_id: Mapping[str, Path], log_path: Path) -> Iterator[str]:
        """Yields a line about undelivered journals and a line about permanently rejected records, if there are any."""
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
                f"expfw: {self.name} rejected records permanently: {rejections[0]}{more}; the journal contains them; "
                f"log: {log_path}"
            )


def deliver_all(
    workers: Sequence[TrackerWorker], delivery_folder: Path, command_pipe: IO[bytes], cpu_share: CpuShare
) -> dict[str, Path]:
    """Delivers until the command has ended, and everything is delivered or nothing more can be delivered.

    Returns the folders of the announced journals, by ID.
    """
    folders_by_id: dict[str, Path] = {}
    command_ended, last_progress_at, pause = False, time.monotonic(), 0.0
    while True:
        if command_ended:
            time.sleep(pause)
        elif select.select([command_pipe], [], [], pause)[0]:  # the command closes its pipe when it ends
            command_ended, last_progress_at = True, time.monotonic()
        notes = [path for path in delivery_folder.iterdir() if not path.name.startswith(".")]
        new_notes = [path for path in notes if path.name not in folders_by_id]
        for path in sorted(new_notes, key=lambda path: path.stat().st_mtime_ns):  # a sweep before its trials
            folders_by_id[path.name] = Path(path.read_text())
        cpu_seconds = -time.process_time()
        busy = [worker.deliver(folders_by_id, command_ended) for worker in workers]
        cpu_seconds += time.process_time()
        if any(busy):
            last_progress_at = time.monotonic()
            pause = 0.0 if command_ended else cpu_seconds * (1 / cpu_share.share - 1)
        else:
            pause = POLL_SECONDS / 4 if command_ended else POLL_SECONDS
            is_finished = all(worker.is_finished(folders_by_id) for worker in workers)
            if command_ended and (is_finished or time.monotonic() - last_progress_at > GIVE_UP_SECONDS):
                return folders_by_id


def main(delivery_folder: Path) -> int:
    """Runs the shipper process; returns its exit code."""
    gc.set_threshold(100_000, 50, 100)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    with open(0, "rb", buffering=0, closefd=False) as command_pipe:
        config_values, files, from_beginning, (share, nice) = json.loads(command_pipe.readline())
        os.nice(nice)
        config = build_config(config_values)
        trackers = make_plugins(config, get_catalogue(tuple(files)), kinds=("tracker",))
        runs_dir = Path(config.runs_dir).absolute()
        workers = [TrackerWorker(t.name, t, runs_dir, from_beginning) for t in trackers if isinstance(t, Tracker)]
        import_modules(module for tracker in trackers for module in tracker.preload)
        folders_by_id = deliver_all(workers, delivery_folder, command_pipe, CpuShare(share, nice))
    lines: list[str] = []
    for worker in workers:
        if worker.is_open:
            worker.tracker.close()
        lines += worker.describe_failures(folders_by_id, delivery_folder / LOG_FILE)
    if lines:
        atomic_files.write_text(delivery_folder / RESULT_FILE, "\n".join(lines))
    else:
        shutil.rmtree(delivery_folder, ignore_errors=True)
    gc.freeze()  # no garbage collection at the end of the process
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
