"""The shipper: the process that follows journals and delivers them to trackers, so that no training ever waits for one.

One per `expfw` command, in a process session of its own, started before a framework is imported. It is told of journals
by notes in a folder, keeps how far each is delivered on disk, tries again what failed, and ends when the command has
ended and all is delivered, or the patience is over; what is left then, `expfw runs sync` delivers.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from expfw import folders, journal
from expfw.api import Tracker
from expfw.config import make_plugins, plain
from expfw.errors import RunsFolderError
from expfw.plugins import catalogue
from expfw.saved_model import config_of
from expfw.settings import RunConfig

POLL_SECONDS = 0.2
BATCH_BYTES = 1 << 20
LONGEST_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
_ORDER = "order.json"
log = logging.getLogger("expfw.shipper")


@contextmanager
def shipping(config: RunConfig, files: tuple[str, ...] = ()) -> Iterator[Path | None]:
    """Starts a shipper for the trackers of `config`; yields the folder to announce journals in.

    At the end it waits for the delivery, up to a bound; the shipper goes on alone after that. Yields None where the
    configuration has no tracker.

    Raises:
        RunsFolderError: the runs folder cannot be written to.
    """
    if not config.tracker:
        yield None
        return
    runs_dir = Path(config.runs_dir).absolute()
    notes = runs_dir / ".shipping" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    try:
        notes.mkdir(parents=True)
        (notes / _ORDER).write_text(json.dumps({"config": plain(config), "files": files, **folders.process_identity()}))
        (notes / _ORDER).chmod(0o600)  # a tracker's options may hold a password
        error_log = open(notes / ".log", "wb")  # noqa: SIM115  # the child keeps it; ours is closed below
    except OSError as error:
        raise RunsFolderError(
            f"cannot write to the runs folder {runs_dir} ({error.strerror}); choose another with runs_dir=FOLDER"
        ) from error
    with error_log:
        command = [sys.executable, "-m", "expfw.shipper", str(notes)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=error_log, stderr=error_log, start_new_session=True)
    try:
        yield notes
    finally:
        _leave(process, notes)


def _leave(process: subprocess.Popen[bytes], notes: Path) -> None:
    assert process.stdin is not None
    process.stdin.close()  # the shipper sees that the command is through
    try:
        code = process.wait(PATIENCE_SECONDS + 5)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        print("expfw: tracking goes on in the background", file=sys.stderr)
        return
    if code != 0:
        print(f"expfw: not all could be delivered to the tracker; see {notes / '.log'}", file=sys.stderr)


@dataclass
class Delivery:
    """One journal on its way to one tracker."""

    name: str
    tracker: Tracker
    folder: Path
    offset: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    complete: bool = False

    def __post_init__(self) -> None:
        self._file = self.folder / "tracking" / f"{self.name}.json"
        self._file.parent.mkdir(exist_ok=True)
        self._lock = FileLock(self._file.with_suffix(".lock"))
        self._lock.acquire(timeout=0)
        if self._file.exists():
            known = json.loads(self._file.read_text())
            self.offset, self.state = known["offset"], known["state"]

    def advance(self) -> bool:
        """Delivers a portion of what is new; returns whether there was any. What the tracker raises goes through."""
        records, end = journal.read(self.folder / journal.NAME, self.offset, BATCH_BYTES)
        if records:
            self.tracker.ship(self.folder, self.state, records)
            self.offset = end
            self.complete = records[-1]["kind"] in ("run_ended", "sweep_ended")
            self._keep()
        return bool(records)

    def _keep(self) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(json.dumps({"offset": self.offset, "state": self.state}))
        written.replace(self._file)

    def release(self) -> None:
        """Lets another process go on with it."""
        self._lock.release()


class Shipper:
    """Follows all journals announced in one folder."""

    def __init__(self, notes: Path, command: IO[bytes]) -> None:
        order = json.loads((notes / _ORDER).read_text())
        self.notes = notes
        self.command = command
        self.config = config_of(order["config"])
        self.files = tuple(order["files"])
        self.runs_dir = Path(self.config.runs_dir).absolute()
        self.trackers: dict[str, Tracker] = {}
        self.unopened = dict(zip(self.config.tracker, self._make_trackers(), strict=True))
        self.deliveries: dict[str, list[Delivery]] = {}
        self.pause, self.next_try = 0.0, {name: 0.0 for name in self.unopened}

    def _make_trackers(self) -> list[Tracker]:
        made = [p for p in make_plugins(self.config, catalogue(self.files), kinds=("tracker",)) if isinstance(p, Tracker)]
        for tracker in made:
            for module in tracker.preload:
                __import__(module)
        return made

    def follow(self) -> bool:
        """Until the command has ended and all is delivered. Returns whether all is."""
        os.set_blocking(self.command.fileno(), False)
        ended_at: float | None = None
        while True:
            if ended_at is None and self.command.read(1) == b"":
                ended_at = time.monotonic()
            busy = self._round()
            if ended_at is not None and not busy:
                if self._all_delivered():
                    return True
                if time.monotonic() - ended_at > PATIENCE_SECONDS:
                    return False
            if not busy:
                time.sleep(POLL_SECONDS)

    def _round(self) -> bool:
        busy = False
        for name in list(self.next_try):
            if time.monotonic() < self.next_try[name]:
                continue
            try:
                self._open(name)
                busy = self._accept(name) or busy
                for delivery in self.deliveries.get(name, []):
                    if not delivery.complete:
                        busy = delivery.advance() or busy
                self.pause = 0.0
            except Exception:  # whatever a tracker raises: it is written down and tried again later
                self.pause = min(LONGEST_PAUSE_SECONDS, max(0.5, self.pause * 2))
                self.next_try[name] = time.monotonic() + self.pause
                log.exception("%s: next try in %.1f s", name, self.pause)
        return busy

    def _open(self, name: str) -> None:
        if name in self.unopened:
            self.unopened[name].open(self.runs_dir)
            self.trackers[name] = self.unopened.pop(name)

    def _accept(self, name: str) -> bool:
        known = self.deliveries.setdefault(name, [])
        before = len(known)
        for note in sorted(self.notes.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            if not note.name.startswith(".") and note.name != _ORDER:
                folder = Path(note.read_text())
                if all(d.folder != folder for d in known):
                    try:
                        known.append(Delivery(name, self.trackers[name], folder))
                    except Timeout:
                        log.info("%s is being shipped by another process", folder)
        return len(known) > before

    def _all_delivered(self) -> bool:
        """No journal that is still written to, none with records left."""
        if self.unopened:
            return not any(not n.name.startswith(".") and n.name != _ORDER for n in self.notes.iterdir())
        return all(d.complete or not _being_written(d.folder) and self._at_end(d) for ds in self.deliveries.values() for d in ds)

    @staticmethod
    def _at_end(delivery: Delivery) -> bool:
        return not journal.read(delivery.folder / journal.NAME, delivery.offset, limit=1)[0]

    def close(self, delivered: bool) -> None:
        """Closes the trackers, and removes the notes where all is delivered."""
        for tracker in self.trackers.values():
            tracker.close()
        for deliveries in self.deliveries.values():
            for delivery in deliveries:
                delivery.release()
        if delivered:
            shutil.rmtree(self.notes, ignore_errors=True)


def _being_written(folder: Path) -> bool:
    first, last = journal.first_and_last(folder / journal.NAME)
    return last["kind"] not in ("run_ended", "sweep_ended") and folders.process_lives(first)


def main(notes: Path) -> int:
    """What the shipper process does."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    shipper = Shipper(notes, sys.stdin.buffer.raw)  # type: ignore[attr-defined]  # its raw file does not wait for more
    delivered = shipper.follow()
    shipper.close(delivered)
    return 0 if delivered else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
