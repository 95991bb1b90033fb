"""Lock of a run folder or sweep folder: one process writes at a time, identified by more than its ID."""

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
from expfw.system.json_values import read_json

PROCESS_FILE, LOCK_FILE = "process.json", ".process.lock"
HEARTBEAT_SECONDS = 10.0
_HEARTBEAT_TIMEOUT_SECONDS = 6 * HEARTBEAT_SECONDS


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Locks `folder` for this process; `process.json` identifies the process and is touched as a heartbeat.

    Raises:
        RunsFolderError: if another process has the lock, or the folder cannot be written.
    """
    path, temporary_path = folder / PROCESS_FILE, folder / f".{PROCESS_FILE}.new"
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
        temporary_path.write_text(json.dumps(_identify_process(os.getpid())))
        temporary_path.replace(path)
    except Timeout as error:
        owner = "another process"
        with suppress(OSError, ValueError, KeyError):  # it has just started
            identity = read_json(path)
            owner = f"process {identity['pid']} on {identity['host']}"
        raise RunsFolderError(f"{folder} is being written by {owner}; wait until it ends, or stop it") from error
    except OSError as error:
        lock.release()
        raise RunsFolderError(f"cannot write to folder {folder}: {error.strerror}") from error
    stopped = threading.Event()

    def send_heartbeats() -> None:
        while not stopped.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # the folder was removed: the next write raises
                os.utime(path)

    thread = threading.Thread(target=send_heartbeats, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        with suppress(OSError):  # a process file of a dead process is recognized
            path.unlink(missing_ok=True)
        lock.release()


def has_live_process(folder: Path) -> bool:
    """Returns whether the process that locked the folder last is still running.

    On this machine, a process is identified by its ID and its start time since boot, so a change of the clock does not
    matter. On another machine, it is identified by its heartbeat.
    """
    try:
        recorded_identity = read_json(folder / PROCESS_FILE)
        last_heartbeat = (folder / PROCESS_FILE).stat().st_mtime
        if recorded_identity["host"] != platform.node():
            return abs(time.time() - last_heartbeat) < _HEARTBEAT_TIMEOUT_SECONDS
        is_number = type(recorded_identity["pid"]) is int
        return is_number and bool(recorded_identity == _identify_process(recorded_identity["pid"]))
    except (OSError, ValueError, TypeError, KeyError):  # missing or damaged file, or no such process
        return False


def _identify_process(pid: int) -> dict[str, Any]:
    """Returns values that identify a process, also across reboots and reused IDs; raises OSError if there is none."""
    boot = None
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if Path("/proc/self").exists():
        stat = Path(f"/proc/{pid}/stat").read_text()
        started = float(stat.rpartition(")")[2].split()[19])  # in clock ticks since boot
    else:
        import psutil

        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error as error:
            raise ProcessLookupError(f"no process {pid}") from error
    return {"pid": pid, "started": started, "host": platform.node(), "boot": boot}
