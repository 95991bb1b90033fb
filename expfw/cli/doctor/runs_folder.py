"""Checks of the runs folder: file system, writing, locks, space, unfinished work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from expfw.cli.doctor.finding import Finding
from expfw.cli.runs.clean import removal
from expfw.errors import to_one_line
from expfw.system.formatting import GIB, pluralize
from expfw.tracking import run_index
from expfw.tracking.recorded_run import RUNNING
from expfw.tracking.shipper import delivery
from expfw.tracking.workspace import Workspace

_NETWORK_FILE_SYSTEMS = "nfs cifs smb lustre beegfs gpfs ceph gluster 9p afs fuse.sshfs pvfs"
_MINIMUM_GIB, _ENOUGH_GIB = 0.5, 5.0


def check_runs_folder(workspace: Workspace) -> Iterator[Finding]:
    """Checks the runs folder, or its closest existing parent if the runs folder does not exist yet."""
    runs_dir = workspace.runs_dir.absolute()
    folder = next(path for path in (runs_dir, *runs_dir.parents) if path.exists())
    yield _check_file_system(folder, f"{runs_dir}{'' if folder == runs_dir else ' (the first run creates it)'}")
    yield _check_writable(folder)
    free = shutil.disk_usage(folder).free / GIB
    advice = "to free space: expfw runs clean --checkpoints-only, or --keep-best 5 --older-than 30d"
    yield Finding("disk", f"{free:.1f} GiB free", free >= _MINIMUM_GIB, advice if free < _ENOUGH_GIB else "")
    if runs_dir.is_dir():
        yield from _check_unfinished_work(workspace)


def _check_file_system(folder: Path, description: str) -> Finding:
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(mount.mountpoint)]
    if not mounts:
        return Finding("runs folder", description)
    kind = max(reversed(mounts), key=lambda mount: len(mount.mountpoint)).fstype
    if kind.startswith(tuple(_NETWORK_FILE_SYSTEMS.split())):
        advice = "MLflow's SQLite store is not safe there; set MLFLOW_TRACKING_URI to a tracking server, or --runs-dir "
        advice += "to a local disk"
        return Finding("runs folder", f"{description}, on a network file system ({kind})", True, advice)
    return Finding("runs folder", f"{description}, on a local disk ({kind})")


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


def _check_unfinished_work(workspace: Workspace) -> Iterator[Finding]:
    runs_dir, option = workspace.runs_dir.absolute(), workspace.runs_dir_option
    undelivered = running = 0
    for entry in (*run_index.list_sweeps(runs_dir), *run_index.list_runs(runs_dir)):
        if entry.status == RUNNING:
            running += 1
        elif names := removal.get_tracker_names(entry):
            progress = delivery.describe_progress(entry.folder)
            undelivered += any(progress.get(name) != delivery.COMPLETE for name in names)
    if running:
        yield Finding("running", f"runs and sweeps in progress: {running}")
    if undelivered:
        result = f"runs and sweeps not delivered to the trackers: {undelivered}"
        yield Finding("delivery", result, True, f"expfw runs sync{option}")
    else:
        yield Finding("delivery", "all runs and sweeps delivered to the trackers")
    if unfinished := removal.find_unfinished(runs_dir):
        result = f"{pluralize(len(unfinished), 'folder')} of interrupted deletions"
        yield Finding("deletion", result, True, f"expfw runs clean --yes{option}")
