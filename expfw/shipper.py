"""The shipper: the process that follows journals and delivers them to trackers, so that no training waits for one.

One per `expfw` command. It is told of journals by notes in a folder, keeps on disk how far each is delivered, tries
again what failed, and ends when the command has ended and all is delivered, or nothing got through for a while.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from expfw import durable, journal, process
from expfw.api import Tracker
from expfw.config import from_plain, make_plugins
from expfw.plugins import catalogue

POLL_SECONDS = 0.2
PORTION_BYTES = 1 << 20
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 20.0
ORDER, LOG = ".order.json", ".log"
log = logging.getLogger("expfw.shipper")


class Patience:
    """When to try again: later after each failure."""

    def __init__(self) -> None:
        self.pause = 0.0
        self.next_try = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self.next_try

    def failed(self, what: str) -> None:
        """To be called while the exception is handled: it is written down."""
        self.pause = min(LONGEST_PAUSE_SECONDS, max(0.5, self.pause * 2))
        self.next_try = time.monotonic() + self.pause
        log.exception("%s: next try in %.1f s", what, self.pause)

    def succeeded(self) -> None:
        self.pause = 0.0


class Delivery:
    """One journal on its way to one tracker.

    Raises:
        Timeout: another process delivers it.
    """

    def __init__(self, name: str, tracker: Tracker, folder: Path) -> None:
        self.tracker = tracker
        self.folder = folder
        self.journal = folder / journal.NAME
        self.offset = 0
        self.state: dict[str, Any] = {}
        self.complete = False
        self._patience = Patience()
        self._file = folder / "tracking" / f"{name}.json"
        self._file.parent.mkdir(exist_ok=True)
        self._lock = FileLock(self._file.with_suffix(".lock"))
        self._lock.acquire(timeout=0)
        if self._file.exists():
            known = json.loads(self._file.read_text())
            self.offset, self.state = journal.line_start(self.journal, known["offset"]), known["state"]

    def work(self) -> bool:
        """Delivers a portion of what is new, if it is time; returns whether anything was delivered.

        What the tracker raises costs this journal a pause, and no other journal anything.
        """
        if self.complete or not self._patience.due():
            return False
        try:
            delivered = self.advance()
        except Exception:  # whatever a tracker raises
            self._patience.failed(str(self.folder))
            return False
        self._patience.succeeded()
        return delivered

    def advance(self) -> bool:
        """Delivers a portion of what is new; returns whether there was any. What the tracker raises goes through.

        The first record goes alone, so that what the tracker made for it is kept at once.
        """
        first = self.offset == 0 and self._deliver(1)
        return (not self.complete and self._deliver(PORTION_BYTES)) or first

    def _deliver(self, limit: int) -> bool:
        lives = process.lives(self.folder)  # asked before reading: what it wrote until then is read
        if self.journal.stat().st_size > self.offset:
            durable.to_disk(self.journal)  # nothing is delivered that a loss of power could take back
        records, end = journal.read(self.journal, self.offset, limit)
        last = journal.first_and_last(self.journal)[1]
        ended = last["kind"] in journal.ENDS and (not records or records[-1] == last)
        if not records and not ended and not lives:
            records = [{"kind": "interrupted", "time": time.time()}]  # its writer did not come to say so
            ended = True
        if records:
            self.tracker.ship(self.folder, self.state, records)
            self.offset = end
            self._keep()
        if ended:
            self.complete = True
            self._lock.release()
        return bool(records)

    def _keep(self) -> None:
        durable.write_text(self._file, json.dumps({"offset": self.offset, "state": self.state}))


class Lane:
    """One tracker with its deliveries."""

    def __init__(self, name: str, tracker: Tracker, runs_dir: Path) -> None:
        self.name = name
        self.tracker = tracker
        self.runs_dir = runs_dir
        self.open = False
        self.deliveries: dict[str, Delivery] = {}
        self.elsewhere: set[str] = set()  # delivered by another process, until that ends
        self._patience = Patience()

    def work(self, notes: dict[str, Path]) -> bool:
        """Delivers what there is; returns whether anything was delivered."""
        if not self.open and not self._opened():
            return False
        for note, folder in notes.items():
            if note not in self.deliveries:
                self._accept(note, folder)
        delivered = [delivery.work() for delivery in self.deliveries.values()]
        return any(delivered)

    def _opened(self) -> bool:
        if not self._patience.due():
            return False
        try:
            self.tracker.open(self.runs_dir)
        except Exception:  # whatever a tracker raises
            self._patience.failed(f"tracker {self.name}")
            return False
        self.open = True
        return True

    def _accept(self, note: str, folder: Path) -> None:
        try:
            self.deliveries[note] = Delivery(self.name, self.tracker, folder)
            self.elsewhere.discard(note)
        except Timeout:
            if note not in self.elsewhere:
                log.info("%s is being delivered by another process", folder)
            self.elsewhere.add(note)
        except Exception:  # a damaged note of ours, for example; the other journals go on
            if note not in self.elsewhere:
                log.exception("%s cannot be delivered", folder)
            self.elsewhere.add(note)

    def finished(self, notes: dict[str, Path]) -> bool:
        """Whether every announced journal is delivered to its end."""
        return notes.keys() <= self.deliveries.keys() and all(one.complete for one in self.deliveries.values())


class Shipper:
    """Follows all journals announced in one folder, for all trackers of the command."""

    def __init__(self, folder: Path, command: IO[bytes]) -> None:
        order = json.loads((folder / ORDER).read_text())
        config = from_plain(order["config"])
        self.folder = folder
        self.command = command
        self.notes: dict[str, Path] = {}
        trackers = make_plugins(config, catalogue(tuple(order["files"])), kinds=("tracker",))
        runs_dir = Path(config.runs_dir).absolute()
        self.lanes = [Lane(t.name, t, runs_dir) for t in trackers if isinstance(t, Tracker)]
        for lane in self.lanes:
            for module in lane.tracker.preload:
                importlib.import_module(module)

    def follow(self) -> bool:
        """Works until the command has ended and all is delivered; returns whether all is."""
        os.set_blocking(self.command.fileno(), False)
        command_ended = False
        progress_at = time.monotonic()
        while True:
            if not command_ended and self.command.read(1) == b"":
                command_ended, progress_at = True, time.monotonic()
            self.notes.update(self._new_notes())
            busy = [lane.work(self.notes) for lane in self.lanes]
            if any(busy):
                progress_at = time.monotonic()
                continue
            if command_ended and all(lane.finished(self.notes) for lane in self.lanes):
                return True
            if command_ended and time.monotonic() - progress_at > PATIENCE_SECONDS:
                return False
            time.sleep(POLL_SECONDS)

    def _new_notes(self) -> Iterator[tuple[str, Path]]:
        """Oldest first, so that a sweep comes before its trials."""
        new = [p for p in self.folder.iterdir() if not p.name.startswith(".") and p.name not in self.notes]
        for path in sorted(new, key=lambda p: p.stat().st_mtime_ns):
            yield path.name, Path(path.read_text())

    def close(self, delivered: bool) -> None:
        """Closes the trackers, and removes the notes where all is delivered."""
        for lane in self.lanes:
            if lane.open:
                lane.tracker.close()
        if delivered:
            shutil.rmtree(self.folder, ignore_errors=True)


def main(folder: Path) -> int:
    """What the shipper process does."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    with open(0, "rb", buffering=0, closefd=False) as command:
        shipper = Shipper(folder, command)
        delivered = shipper.follow()
    shipper.close(delivered)
    return 0 if delivered else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
