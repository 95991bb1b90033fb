"""The shipper: the process that follows journals and delivers them to trackers, so that no training waits for one.

One per `expfw` command. It is told of journals by notes in a folder, keeps on disk how far each is delivered, tries
again what failed, and ends when the command has ended and all is delivered, or nothing got through for a while.
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
from expfw.config.freeze import from_plain, make_plugins
from expfw.errors import one_line
from expfw.plugins.catalogue import catalogue
from expfw.system import atomic_files
from expfw.system.garbage_collection import about_to_end, collect_rarely, import_modules
from expfw.tracking.shipper.delivery import Delivery, Patience

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 20.0
ORDER, LOG, OUTCOME = ".order.json", ".log", ".outcome.json"
log = logging.getLogger("expfw.shipper")


@dataclass(frozen=True)
class Effort:
    """How much of the machine the shipper takes while its command goes on; afterwards as much as there is.

    Attributes:
        share: of the time of one processor core, at most. A core that is free is no free lunch: two of them often share
            caches and arithmetic units.
        nice: how far it stands back where all cores are wanted.
    """

    share: float = 1.0
    nice: int = 0


BEHIND_A_TRAINING = Effort(share=0.1, nice=19)
BESIDE_A_SWEEP = Effort(nice=5)  # the whole counts there, and what is put off comes at its end
EVERYTHING = Effort()


class Lane:
    """One tracker with its deliveries.

    Args:
        again: whether each journal is delivered from its beginning.
    """

    def __init__(self, name: str, tracker: Tracker, runs_dir: Path, again: bool = False) -> None:
        self.name = name
        self.tracker = tracker
        self.runs_dir = runs_dir
        self.again = again
        self.open = False
        self.deliveries: dict[str, Delivery] = {}
        self.elsewhere: dict[str, str] = {}  # not delivered here, and why
        self.patience = Patience()

    def work(self, notes: dict[str, Path]) -> bool:
        """Delivers what there is; returns whether anything was delivered."""
        if not self.patience.due() or (not self.open and not self._opened()):
            return False
        for note, folder in notes.items():
            if note not in self.deliveries:
                self._accept(note, folder)
        delivered = False
        for note, delivery in list(self.deliveries.items()):
            try:
                delivered = delivery.work() or delivered
            except ConnectionError as error:  # nobody's journal can be delivered now, and this one is the last to try
                self.patience.failed(f"tracker {self.name}", error)
                self.deliveries[note] = self.deliveries.pop(note)
                return delivered
        self.patience.succeeded()
        if delivered:
            for delivery in self.deliveries.values():
                delivery.patience.others_went_on()
        return delivered

    def _opened(self) -> bool:
        try:
            self.tracker.open(self.runs_dir)
        except (Exception, SystemExit) as error:  # whatever a tracker raises
            self.patience.failed(f"tracker {self.name}", error)
            return False
        self.open = True
        return True

    def _accept(self, note: str, folder: Path) -> None:
        try:
            destination = self.tracker.destination(self.runs_dir)
            self.deliveries[note] = Delivery(self.name, self.tracker, folder, destination, self.again)
            self.elsewhere.pop(note, None)
        except Timeout:
            if note not in self.elsewhere:
                log.info("%s is being delivered by another process", folder)
            self.elsewhere[note] = "another process delivers it"
        except Exception as error:  # a damaged note of ours, for example; the other journals go on
            if note not in self.elsewhere:
                log.exception("%s cannot be delivered", folder)
            self.elsewhere[note] = one_line(f"{type(error).__name__}: {error}")

    def finished(self, notes: dict[str, Path]) -> bool:
        """Whether every announced journal is delivered to its end."""
        return notes.keys() <= self.deliveries.keys() and all(one.complete for one in self.deliveries.values())

    def left(self, notes: dict[str, Path]) -> dict[str, str]:
        """The folders whose journals are not delivered to their end, with the reason."""
        found = {}
        for note, folder in notes.items():
            one = self.deliveries.get(note)
            if one is None or not one.complete:
                troubles = (self.patience.trouble, one and one.patience.trouble, self.elsewhere.get(note))
                found[str(folder)] = next((text for text in troubles if text), "time ran out")
        return found

    def refusals(self) -> list[str]:
        """What the tracker has refused for good, a line for each run."""
        states = ((one.folder, one.state.get("refused")) for one in self.deliveries.values())
        return [f"{folder.name}: {text}" for folder, text in states if text]


class Shipper:
    """Follows all journals announced in one folder, for all trackers of the command."""

    def __init__(self, folder: Path, command: IO[bytes]) -> None:
        order = json.loads((folder / ORDER).read_text())
        self.effort = Effort(**order["effort"])
        os.nice(self.effort.nice)
        config = from_plain(order["config"])
        self.folder = folder
        self.command = command
        self.notes: dict[str, Path] = {}
        trackers = make_plugins(config, catalogue(tuple(order["files"])), kinds=("tracker",))
        runs_dir = Path(config.runs_dir).absolute()
        again = bool(order["again"])
        self.lanes = [Lane(t.name, t, runs_dir, again) for t in trackers if isinstance(t, Tracker)]
        import_modules(module for lane in self.lanes for module in lane.tracker.preload)

    def follow(self) -> bool:
        """Works until the command has ended and all is delivered; returns whether all is."""
        command_ended = False
        progress_at = time.monotonic()
        while True:
            if not command_ended and self._command_has_ended(0.0):
                command_ended, progress_at = True, time.monotonic()
            self.notes.update(self._new_notes())
            spent = -time.process_time()
            busy = [lane.work(self.notes) for lane in self.lanes]
            spent += time.process_time()
            if any(busy):
                progress_at = time.monotonic()
                if not command_ended:
                    self._command_has_ended(spent * (1 / self.effort.share - 1))
                continue
            if command_ended and all(lane.finished(self.notes) for lane in self.lanes):
                return True
            if command_ended and time.monotonic() - progress_at > PATIENCE_SECONDS:
                return False
            if command_ended:
                time.sleep(POLL_SECONDS / 4)
            else:
                self._command_has_ended(POLL_SECONDS)

    def _command_has_ended(self, seconds: float) -> bool:
        """Whether its end of the pipe is closed; waits for that so long."""
        return bool(select.select([self.command], [], [], seconds)[0])

    def _new_notes(self) -> Iterator[tuple[str, Path]]:
        """Oldest first, so that a sweep comes before its trials."""
        new = [p for p in self.folder.iterdir() if not p.name.startswith(".") and p.name not in self.notes]
        for path in sorted(new, key=lambda p: p.stat().st_mtime_ns):
            yield path.name, Path(path.read_text())

    def close(self, delivered: bool) -> None:
        """Closes the trackers; removes the notes where all went well, else writes down what did not."""
        for lane in self.lanes:
            if lane.open:
                lane.tracker.close()
        left = {lane.name: found for lane in self.lanes if (found := lane.left(self.notes))}
        refused = {lane.name: lines for lane in self.lanes if (lines := lane.refusals())}
        if delivered and not refused:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            atomic_files.write_text(self.folder / OUTCOME, json.dumps({"left": left, "refused": refused}))


def main(folder: Path) -> int:
    """What the shipper process does."""
    collect_rarely()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    with open(0, "rb", buffering=0, closefd=False) as command:
        shipper = Shipper(folder, command)
        delivered = shipper.follow()
    shipper.close(delivered)
    about_to_end()
    return 0 if delivered and not (folder / OUTCOME).exists() else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
