"""One journal on its way to one tracker: how far it is, kept on disk, and when to try again."""

from __future__ import annotations

import json
import logging
import textwrap
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from expfw.api.contracts import Tracker
from expfw.errors import one_line
from expfw.system import atomic_files, process_lock
from expfw.tracking import journal

PORTION_BYTES = 1 << 16
LONGEST_PAUSE_SECONDS = 8.0
COMPLETE = "complete"
log = logging.getLogger("expfw.shipper")


class Patience:
    """When to try again: later after each failure.

    Attributes:
        trouble: what went wrong last, in one line; None once it went well.
        waits: whether only something of another journal is missing, a LookupError.
    """

    def __init__(self) -> None:
        self.pause = 0.0
        self.next_try = 0.0
        self.trouble: str | None = None
        self.waits = False

    def due(self) -> bool:
        return time.monotonic() >= self.next_try

    def failed(self, what: str, error: BaseException) -> None:
        """To be called while the exception is handled: it is written down."""
        self.pause = min(LONGEST_PAUSE_SECONDS, max(0.5, self.pause * 2))
        self.next_try = time.monotonic() + self.pause
        self.waits = type(error) is LookupError
        kind = "" if isinstance(error, ConnectionError) else f"{type(error).__name__}: "
        self.trouble = textwrap.shorten(one_line(f"{kind}{error}"), 200, placeholder=" ...")
        log.exception("%s: next try in %.1f s", what, self.pause)

    def others_went_on(self) -> None:
        """Something of another journal was delivered: it may be what is missing here."""
        if self.waits:
            self.next_try = 0.0

    def succeeded(self) -> None:
        self.pause = 0.0
        self.trouble = None
        self.waits = False


class Delivery:
    """One journal on its way to one tracker.

    What the tracker keeps in mind belongs to one destination; for another one the journal is delivered from its
    beginning.

    Args:
        destination: see `Tracker.destination`.
        again: from its beginning, to the same destination, which has lost it.

    Raises:
        Timeout: another process delivers it.
    """

    def __init__(self, name: str, tracker: Tracker, folder: Path, destination: str = "", again: bool = False) -> None:
        self.tracker = tracker
        self.folder = folder
        self.journal = folder / journal.NAME
        self.offset = 0
        self.state: dict[str, Any] = {}
        self.complete = False
        self.patience = Patience()
        self._destination = destination
        self._file = place(folder, name)
        self._file.parent.mkdir(exist_ok=True)
        self._lock = FileLock(self._file.with_suffix(".lock"))
        self._lock.acquire(timeout=0)
        known = kept(folder, name)
        if known.get("destination") == destination and not again:
            self.offset, self.state = journal.line_start(self.journal, known["offset"]), known["state"]

    def work(self) -> bool:
        """Delivers a portion of what is new, if it is time; returns whether anything was delivered.

        What the tracker raises costs this journal a pause, and no other journal anything.

        Raises:
            ConnectionError: the tracker cannot be reached, for any journal.
        """
        if self.complete or not self.patience.due():
            return False
        try:
            delivered = self.advance()
        except ConnectionError:
            raise
        except (Exception, SystemExit) as error:  # whatever a tracker raises; it does not decide how our process ends
            self.patience.failed(str(self.folder), error)
            return False
        self.patience.succeeded()
        return delivered

    def advance(self) -> bool:
        """Delivers a portion of what is new; returns whether there was any. What the tracker raises goes through.

        The first record goes alone, so that what the tracker made for it is kept at once.
        """
        first = self.offset == 0 and self._deliver(1)
        return (not self.complete and self._deliver(PORTION_BYTES)) or first

    def _deliver(self, limit: int) -> bool:
        lives = process_lock.lives(self.folder)  # asked before reading: what it wrote until then is read
        if self.journal.stat().st_size > self.offset:
            atomic_files.to_disk(self.journal)  # nothing is delivered that a loss of power could take back
        records, end = journal.read(self.journal, self.offset, limit)
        last = journal.first_and_last(self.journal)[1]
        ended = last["kind"] in journal.ENDS and (not records or records[-1] == last)
        if not records and not ended and not lives:
            records = [{"kind": "interrupted", "time": time.time()}]  # its writer did not come to say so
            ended = True
        if records:
            self.tracker.ship(self.folder, self.state, records)
            self._keep(end, ended)
            self.offset = end  # only now: what cannot be kept comes again
        if ended:
            self.complete = True
            self._lock.release()
        return bool(records)

    def _keep(self, offset: int, complete: bool) -> None:
        known = {"offset": offset, "complete": complete, "destination": self._destination, "state": self.state}
        atomic_files.write_text(self._file, json.dumps(known))


def place(folder: Path, name: str) -> Path:
    """The file that says how far a journal is delivered to the tracker of that name."""
    return folder / "tracking" / f"{name}.json"


def kept(folder: Path, name: str) -> dict[str, Any]:
    """What it says; nothing where nothing was delivered yet."""
    path = place(folder, name)
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def progress(folder: Path) -> dict[str, str]:
    """For each tracker that has some of a journal: how much of it is left."""
    size = (folder / journal.NAME).stat().st_size
    found = {}
    for path in sorted((folder / "tracking").glob("*.json")):
        known = kept(folder, path.stem)
        left = max(0, size - known["offset"])
        found[path.stem] = COMPLETE if known.get("complete") and not left else f"{left:,} bytes of the journal left"
    return found


def is_complete(folder: Path, name: str, destination: str) -> bool:
    """Whether that destination has the whole journal."""
    known = kept(folder, name)
    whole = known.get("complete") and known["offset"] >= (folder / journal.NAME).stat().st_size
    return bool(whole) and known["destination"] == destination
