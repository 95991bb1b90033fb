"""Checks of the machine and the runs folder, without plugins."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from filelock import FileLock, Timeout
from rich.table import Table
from rich.text import Text

from expfw.cli.runs.clean import removal
from expfw.errors import to_one_line
from expfw.system import cpu
from expfw.system.formatting import GIB, pluralize
from expfw.system.process_exit import get_control_group
from expfw.tracking import run_index
from expfw.tracking.recorded_run import RUNNING
from expfw.tracking.run_index import Workspace
from expfw.tracking.shipper import delivery

_FIRST_PYTHON, _LAST_PYTHON = (3, 11), (3, 13)
_MINIMUM_MEMORY_GIB, _ENOUGH_MEMORY_GIB = 1.0, 3.0
_MINIMUM_DISK_GIB, _ENOUGH_DISK_GIB = 0.5, 5.0
_MINIMUM_SHARED_BYTES = 32 * 2**20
_NETWORK_FILE_SYSTEMS = "nfs cifs smb lustre beegfs gpfs ceph gluster 9p afs fuse.sshfs pvfs"
OK, NOTE, PROBLEM = "ok", "note", "problem"
_STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        subject: subject of the check, one or two words.
        text: result, one line.
        ok: whether a run can train despite this result.
        advice: how to fix the problem; if `ok` is true, a hint.
    """

    subject: str
    text: str
    ok: bool = True
    advice: str = ""

    @property
    def mark(self) -> str:
        """`ok`, `note` or `problem`."""
        return PROBLEM if not self.ok else NOTE if self.advice else OK

    def __rich__(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=8)
        grid.add_column(width=14)
        grid.add_row(Text(self.mark, _STYLES[self.mark]), Text(self.subject), Text(self.text))
        if self.advice:
            grid.add_row("", "", Text(f"-> {self.advice}"))
        return grid


def check_machine(root: Path = Path("/")) -> Iterator[Finding]:
    """Checks Python, CPU cores and memory, by the folders `proc`, `sys` and `dev` in `root`."""
    is_supported = _FIRST_PYTHON <= sys.version_info[:2] <= _LAST_PYTHON
    advice = "create an environment with Python {}.{} to {}.{}".format(*_FIRST_PYTHON, *_LAST_PYTHON)
    version = f"{platform.python_version()} ({sys.executable})"
    yield Finding("Python", version, is_supported, "" if is_supported else advice)

    group = get_control_group(root)
    usable, installed, advice = len(cpu.get_cores()), os.cpu_count() or 1, ""
    result = f"{usable} of {installed} CPU cores can be used" if usable < installed else f"{usable} CPU cores"
    quota, period = _read_number(group / "cpu.max"), _read_number(group / "cpu.max", 1)
    if quota is not None and period and quota / period < usable:
        share = quota / period
        result += f", but the container is limited to {share:g}"
        advice = f"give the container more CPU, or train with backend.threads={max(1, round(share))}"
    yield Finding("cores", result, True, advice)

    memory = psutil.virtual_memory()
    free, total, owner_text = memory.available, memory.total, ""
    limit, used = _read_number(group / "memory.max"), _read_number(group / "memory.current")
    if limit is not None and limit < total:
        free, total, owner_text = min(free, max(0, limit - (used or 0))), limit, " in this container"
    result = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free{owner_text}"
    advice = "each trial needs about half a GiB; stop other programs, or run one trial at a time: sweep.slots=1"
    is_enough = free >= _ENOUGH_MEMORY_GIB * GIB
    yield Finding("memory", result, free >= _MINIMUM_MEMORY_GIB * GIB, "" if is_enough else advice)

    shared_memory = root / "dev" / "shm"
    if not os.access(shared_memory, os.W_OK):
        if shared_memory.exists() or platform.system() == "Linux":
            yield Finding("/dev/shm", "missing or not writable", False, "mount it: docker run --shm-size=1g")
        return
    free = shutil.disk_usage(shared_memory).free
    advice = "" if free >= _MINIMUM_SHARED_BYTES else "enlarge it: docker run --shm-size=1g"
    yield Finding("/dev/shm", f"{free / GIB:.1f} GiB free", not advice, advice)


def _read_number(path: Path, index: int = 0) -> int | None:
    """Reads a number from a file of a control group; None if it is `max` or missing."""
    try:
        return int(path.read_text().split()[index])
    except (OSError, ValueError, IndexError):
        return None


def check_runs_folder(workspace: Workspace) -> Iterator[Finding]:
    """Checks the file system, writing, locks and unfinished work of the runs folder.

    If the runs folder does not exist yet, its closest existing parent is checked.
    """
    runs_dir, option = workspace.runs_dir.absolute(), workspace.runs_dir_option
    folder = next(path for path in (runs_dir, *runs_dir.parents) if path.exists())
    result, advice = f"{runs_dir}{'' if folder == runs_dir else ' (the first run creates it)'}", ""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(mount.mountpoint)]
    if mounts:
        kind = max(reversed(mounts), key=lambda mount: len(mount.mountpoint)).fstype
        is_remote = kind.startswith(tuple(_NETWORK_FILE_SYSTEMS.split()))
        result += f", on a {'network file system' if is_remote else 'local disk'} ({kind})"
        if is_remote:
            advice = "MLflow's SQLite store is not safe there; set MLFLOW_TRACKING_URI to a tracking server, or "
            advice += "--runs-dir to a local disk"
    yield Finding("runs folder", result, True, advice)

    yield _check_writable(folder)
    free = shutil.disk_usage(folder).free / GIB
    advice = "to free space: expfw runs clean --checkpoints-only, or --keep-best 5 --older-than 30d"
    yield Finding("disk", f"{free:.1f} GiB free", free >= _MINIMUM_DISK_GIB, advice if free < _ENOUGH_DISK_GIB else "")

    if not runs_dir.is_dir():
        return
    recorded_runs = run_index.list_all(runs_dir)
    undelivered = 0
    for recorded in recorded_runs:
        if recorded.status != RUNNING and (names := removal.get_tracker_names(recorded)):
            progress = delivery.describe_progress(recorded.folder)
            undelivered += any(progress.get(name) != delivery.COMPLETE for name in names)
    if running := sum(recorded.status == RUNNING for recorded in recorded_runs):
        yield Finding("running", f"runs and sweeps in progress: {running}")
    if undelivered:
        result = f"runs and sweeps not delivered to the trackers: {undelivered}"
        yield Finding("delivery", result, True, f"expfw runs sync{option}")
    else:
        yield Finding("delivery", "all runs and sweeps delivered to the trackers")
    if unfinished := removal.find_unfinished(runs_dir):
        result = f"{pluralize(len(unfinished), 'folder')} of interrupted deletions"
        yield Finding("deletion", result, True, f"expfw runs clean --yes{option}")


def _check_writable(parent: Path) -> Finding:
    try:
        with tempfile.TemporaryDirectory(prefix=".expfw-doctor-", dir=parent) as folder:
            first, second = (FileLock(Path(folder) / "lock", is_singleton=False) for _ in range(2))
            with first, second.acquire(timeout=0):
                advice = "set --runs-dir to another file system, or mount this one with locking"
                return Finding("writing", "file locks do not work: two processes get the same lock", False, advice)
    except Timeout:
        return Finding("writing", "files can be written and locked")
    except (OSError, NotImplementedError) as error:
        result = f"cannot write or lock files in {parent}: {to_one_line(str(error))}"
        return Finding("writing", result, False, "allow writing, or choose another folder with --runs-dir FOLDER")
