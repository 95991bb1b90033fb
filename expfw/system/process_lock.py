"""Which process writes to the folder of a run or a sweep: one at a time, and known by more than its number."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from expfw.errors import RunsFolderError

FILE, LOCK = "process.json", ".process.lock"
BEAT_SECONDS = 10.0
_SILENT_SECONDS = 6 * BEAT_SECONDS


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Keeps `folder` for this process; meanwhile `process.json` says who it is, and every few seconds that it lives.

    Raises:
        RunsFolderError: another process has it.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
        _write_identity(folder)
    except Timeout as error:
        raise RunsFolderError(
            f"{folder} is being written by {_who(folder)}; wait until it has ended, or end it"
        ) from error
    except OSError as error:
        lock.release()
        raise RunsFolderError(f"the folder {folder} cannot be written ({error.strerror})") from error
    try:
        with _beating(folder / FILE):
            yield
    finally:
        with suppress(OSError):  # who is gone is seen to be gone
            (folder / FILE).unlink(missing_ok=True)
        lock.release()


def lives(folder: Path) -> bool:
    """Whether the process that wrote there last still runs.

    On this machine it is known by its number and the moment of its start, counted from when the machine was started, so
    that no change of the clock matters; on another one, by its heartbeat.
    """
    try:
        known = json.loads((folder / FILE).read_text())
        beat = (folder / FILE).stat().st_mtime
        if known["host"] != platform.node():
            return abs(time.time() - beat) < _SILENT_SECONDS
        return bool(known == _identity(known["pid"]))
    except (OSError, ValueError, TypeError, KeyError):  # absent, torn, or no such process
        return False


def _identity(pid: int) -> dict[str, Any]:
    """What tells a process from any other, before and after.

    Raises:
        ProcessLookupError: there is none of that number.
    """
    return {"pid": pid, "started": _started(pid), "host": platform.node(), "boot": _boot()}


def _started(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        with suppress(FileNotFoundError):
            return float(stat.read_text().rpartition(")")[2].split()[19])  # in ticks since the machine was started
        raise ProcessLookupError(f"no process {pid}")
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error as error:
        raise ProcessLookupError(f"no process {pid}") from error


def _boot() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def _who(folder: Path) -> str:
    try:
        known = json.loads((folder / FILE).read_text())
        return f"process {known['pid']} on {known['host']}"
    except (OSError, ValueError, KeyError):  # it has only just begun
        return "another process"


def _write_identity(folder: Path) -> None:
    written = folder / f".{FILE}.new"
    written.write_text(json.dumps(_identity(os.getpid())))
    written.replace(folder / FILE)


@contextmanager
def _beating(path: Path) -> Iterator[None]:
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            with suppress(OSError):  # the folder was removed: what writes there says so
                os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
