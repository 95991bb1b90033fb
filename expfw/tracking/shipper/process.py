"""The shipper: the process that delivers journals to trackers, so that training never waits for a tracker.

There is one shipper per `expfw` command. Notes in a folder announce journals to it. It stores the progress of each
delivery on disk and retries failed deliveries. It ends when the command has ended and everything is delivered, or when
no delivery succeeds for 20 s.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import Timeout

from expfw.api.contracts import Tracker
from expfw.config.freeze import build_config
from expfw.config.run_plugins import make_plugins
from expfw.errors import to_one_line
from expfw.plugins.catalogue import get_catalogue
from expfw.system import atomic_files
from expfw.system.garbage_collection import collect_rarely, import_modules, skip_final_collection
from expfw.tracking.shipper.delivery import Backoff, Delivery

POLL_SECONDS = 1.0
GIVE_UP_SECONDS = 20.0
OPTIONS_FILE, LOG_FILE, RESULT_FILE = ".options.json", ".log", ".result.json"
log = logging.getLogger("expfw.shipper")


@dataclass(frozen=True)
class CpuShare:
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
    """One tracker and its deliveries.

    Args:
        name: name of the tracker.
        tracker: the tracker.
        runs_dir: the runs folder.
        from_beginning: whether to deliver each journal from its beginning.
    """

    def __init__(self, name: str, tracker: Tracker, runs_dir: Path, from_beginning: bool = False) -> None:
        self.name = name
        self.tracker = tracker
        self.runs_dir = runs_dir
        self.from_beginning = from_beginning
        self.is_open = False
        self.deliveries: dict[str, Delivery] = {}
        self.rejection_reasons: dict[str, str] = {}  # by ID of journals that are not delivered here
        self.backoff = Backoff()

    def deliver(self, folders_by_id: dict[str, Path]) -> bool:
        """Delivers new records; returns whether records were delivered."""
        if not self.backoff.is_due() or (not self.is_open and not self._open_tracker()):
            return False
        for journal_id, folder in folders_by_id.items():
            if journal_id not in self.deliveries:
                self._add_delivery(journal_id, folder)
        delivered = False
        for journal_id, delivery in list(self.deliveries.items()):
            try:
                delivered = delivery.deliver_when_due() or delivered
            except ConnectionError as error:  # no journal can be delivered now; try this one last next time
                self.backoff.record_failure(f"tracker {self.name}", error)
                self.deliveries[journal_id] = self.deliveries.pop(journal_id)
                return delivered
        self.backoff.record_success()
        if delivered:
            for delivery in self.deliveries.values():
                delivery.backoff.retry_if_waiting()
        return delivered

    def _open_tracker(self) -> bool:
        try:
            self.tracker.open(self.runs_dir)
        except (Exception, SystemExit) as error:  # a tracker must not end this process
            self.backoff.record_failure(f"tracker {self.name}", error)
            return False
        self.is_open = True
        return True

    def _add_delivery(self, journal_id: str, folder: Path) -> None:
        try:
            destination = self.tracker.destination(self.runs_dir)
            self.deliveries[journal_id] = Delivery(self.name, self.tracker, folder, destination, self.from_beginning)
            self.rejection_reasons.pop(journal_id, None)
        except Timeout:
            if journal_id not in self.rejection_reasons:
                log.info("another process is delivering %s", folder)
            self.rejection_reasons[journal_id] = "another process is delivering it"
        except Exception as error:  # for example a damaged progress file; other journals are still delivered
            if journal_id not in self.rejection_reasons:
                log.exception("cannot deliver %s", folder)
            self.rejection_reasons[journal_id] = to_one_line(f"{type(error).__name__}: {error}")

    def is_finished(self, folders_by_id: dict[str, Path]) -> bool:
        """Returns whether every announced journal is delivered to its end."""
        return folders_by_id.keys() <= self.deliveries.keys() and all(
            delivery.is_complete for delivery in self.deliveries.values()
        )

    def list_undelivered(self, folders_by_id: dict[str, Path]) -> dict[str, str]:
        """Returns the folders with undelivered records, with the reason."""
        reasons = {}
        for journal_id, folder in folders_by_id.items():
            delivery = self.deliveries.get(journal_id)
            if delivery is None or not delivery.is_complete:
                candidates = (
                    self.backoff.last_error,
                    delivery and delivery.backoff.last_error,
                    self.rejection_reasons.get(journal_id),
                )
                reasons[str(folder)] = next((text for text in candidates if text), "timeout")
        return reasons

    def list_rejections(self) -> list[str]:
        """Returns the records that the tracker has rejected permanently, one line per run."""
        states = ((delivery.folder, delivery.state.get("rejected")) for delivery in self.deliveries.values())
        return [f"{folder.name}: {text}" for folder, text in states if text]


class Shipper:
    """Delivers all journals that are announced in one folder to all trackers of the command."""

    def __init__(self, delivery_folder: Path, command_pipe: IO[bytes]) -> None:
        options = json.loads((delivery_folder / OPTIONS_FILE).read_text())
        self.cpu_share = CpuShare(**options["cpu_share"])
        os.nice(self.cpu_share.nice)
        config = build_config(options["config"])
        self.delivery_folder = delivery_folder
        self.command_pipe = command_pipe
        self.folders_by_id: dict[str, Path] = {}
        trackers = make_plugins(config, get_catalogue(tuple(options["files"])), kinds=("tracker",))
        runs_dir = Path(config.runs_dir).absolute()
        from_beginning = bool(options["from_beginning"])
        self.workers = [TrackerWorker(t.name, t, runs_dir, from_beginning) for t in trackers if isinstance(t, Tracker)]
        import_modules(module for worker in self.workers for module in worker.tracker.preload)

    def deliver_all(self) -> bool:
        """Delivers until the command has ended and everything is delivered; returns whether everything is delivered."""
        command_ended = False
        last_progress_at = time.monotonic()
        while True:
            if not command_ended and self._wait_for_command_end(0.0):
                command_ended, last_progress_at = True, time.monotonic()
            self.folders_by_id.update(self._find_new_folders())
            cpu_seconds = -time.process_time()
            busy = [worker.deliver(self.folders_by_id) for worker in self.workers]
            cpu_seconds += time.process_time()
            if any(busy):
                last_progress_at = time.monotonic()
                if not command_ended:
                    self._wait_for_command_end(cpu_seconds * (1 / self.cpu_share.share - 1))
                continue
            if command_ended and all(worker.is_finished(self.folders_by_id) for worker in self.workers):
                return True
            if command_ended and time.monotonic() - last_progress_at > GIVE_UP_SECONDS:
                return False
            if command_ended:
                time.sleep(POLL_SECONDS / 4)
            else:
                self._wait_for_command_end(POLL_SECONDS)

    def _wait_for_command_end(self, timeout_seconds: float) -> bool:
        """Waits up to `timeout_seconds` for the end of the command, which closes its pipe; returns whether it ended."""
        return bool(select.select([self.command_pipe], [], [], timeout_seconds)[0])

    def _find_new_folders(self) -> Iterator[tuple[str, Path]]:
        """Yields announced journals, oldest first, so that a sweep is delivered before its trials."""
        new_notes = [
            p for p in self.delivery_folder.iterdir() if not p.name.startswith(".") and p.name not in self.folders_by_id
        ]
        for path in sorted(new_notes, key=lambda p: p.stat().st_mtime_ns):
            yield path.name, Path(path.read_text())

    def close(self, all_delivered: bool) -> None:
        """Closes the trackers; removes the notes if everything is delivered, otherwise writes the result file."""
        for worker in self.workers:
            if worker.is_open:
                worker.tracker.close()
        undelivered = {
            worker.name: reasons for worker in self.workers if (reasons := worker.list_undelivered(self.folders_by_id))
        }
        rejections = {worker.name: lines for worker in self.workers if (lines := worker.list_rejections())}
        if all_delivered and not rejections:
            shutil.rmtree(self.delivery_folder, ignore_errors=True)
        else:
            atomic_files.write_text(
                self.delivery_folder / RESULT_FILE, json.dumps({"undelivered": undelivered, "rejected": rejections})
            )


def main(delivery_folder: Path) -> int:
    """Runs the shipper process; returns its exit code."""
    collect_rarely()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    with open(0, "rb", buffering=0, closefd=False) as command_pipe:
        shipper = Shipper(delivery_folder, command_pipe)
        delivered = shipper.deliver_all()
    shipper.close(delivered)
    skip_final_collection()
    return 0 if delivered and not (delivery_folder / RESULT_FILE).exists() else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
