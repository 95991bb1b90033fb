"""Locks of a run folder or sweep folder and of its journal: one process writes, identified by more than its ID."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from expfw.errors import RunsFolderError
from expfw.system.json_values import read_json

PROCESS_FILE, LOCK_FILE = "process.json", ".process.lock"
HEARTBEAT_SECONDS = 10.0
_HEARTBEAT_TIMEOUT_SECONDS = 6 * HEARTBEAT_SECONDS
_ENDED_STATES = ("Z", "X", "x")


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
        temporary_path.unlink(missing_ok=True)  # it could be a link to another file
        temporary_path.write_text(json.dumps(identify_process(os.getpid())))
        temporary_path.replace(path)
    except Timeout as error:
        raise _make_conflict_error(folder, folder) from error
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


def lock_file(descriptor: int, path: Path) -> None:
    """Locks an open file in a run folder or sweep folder, until `unlock_file` or the end of this process.

    Raises:
        RunsFolderError: if it is locked, also by this process.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _make_conflict_error(path, path.parent) from error
    except OSError:
        pass  # the file system cannot lock files, only folders


def unlock_file(descriptor: int) -> None:
    """Unlocks the file, also if a forked process has it open too."""
    with suppress(OSError):  # the file system cannot lock files
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _make_conflict_error(path: Path, folder: Path) -> RunsFolderError:
    owner = "another process"
    with suppress(OSError, ValueError, TypeError, KeyError):  # it has just started
        identity = read_json(folder / PROCESS_FILE)
        owner = f"process {identity['pid']} on {identity['host']}"
    return RunsFolderError(f"{path} is being written by {owner}; wait until it ends, or stop it")


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
        return is_alive(recorded_identity)
    except (OSError, ValueError, TypeError, KeyError):  # missing or damaged file
        return False


def is_alive(identity: Mapping[str, Any]) -> bool:
    """Returns whether a process of this machine, as identified by `identify_process`, is still running."""
    try:
        return type(identity["pid"]) is int and bool(identity == identify_process(identity["pid"]))
    except (OSError, TypeError, KeyError):
        return False


def identify_process(pid: int) -> dict[str, Any]:
    """Returns values that identify a process, also across reboots and reused IDs.

    Raises `OSError` if there is no such process, or if it has ended and its parent has not noticed.
    """
    boot = None
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if Path("/proc/self").exists():
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # The first thread may have ended before the others, which still hold the locks of the process.
        has_ended = values[0] in _ENDED_STATES and int(values[17]) <= 1
        started = float(values[19])  # in clock ticks since boot
    else:
        import psutil

        try:
            process = psutil.Process(pid)
            has_ended = process.status() == psutil.STATUS_ZOMBIE
            started = process.create_time()
        except psutil.Error as error:
            raise ProcessLookupError(f"no process {pid}") from error
    if has_ended:
        raise ProcessLookupError(f"process {pid} has ended")
    return {"pid": pid, "started": started, "host": platform.node(), "boot": boot}
