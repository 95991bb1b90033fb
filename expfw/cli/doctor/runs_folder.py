"""Checks of the runs folder: file system, writing, locks, space, unfinished work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from expfw.cli.doctor.finding import Finding
from expfw.cli.runs.clean import removal, trackers
from expfw.errors import to_one_line
from expfw.system.formatting import pluralize
from expfw.system.process_limits import GIB
from expfw.tracking.run_index import RUNNING
from expfw.tracking.shipper import delivery
from expfw.tracking.workspace import Workspace

_NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "beegfs",
    "gpfs",
    "ceph",
    "gluster",
    "9p",
    "afs",
    "fuse.sshfs",
    "pvfs",
)
_MINIMUM_GIB, _ENOUGH_GIB = 0.5, 5.0


def check_runs_folder(workspace: Workspace, mounts: Path = Path("/proc/self/mountinfo")) -> Iterator[Finding]:
    """Checks the runs folder, or its closest existing parent if the runs folder does not exist yet.

    Args:
        workspace: the runs folder.
        mounts: the system's table of mounted file systems.
    """
    runs_dir = workspace.runs_dir.absolute()
    existing_folder = next(path for path in (runs_dir, *runs_dir.parents) if path.exists())
    description = f"{runs_dir}{'' if existing_folder == runs_dir else ' (the first run creates it)'}"
    yield _check_file_system(existing_folder, description, mounts)
    yield _check_writable(existing_folder)
    yield _check_disk_space(existing_folder)
    if workspace.runs_dir.is_dir():
        yield from _check_unfinished_work(workspace)


def _check_file_system(folder: Path, description: str, mounts: Path) -> Finding:
    kind = read_file_system_type(folder, mounts)
    if kind is not None and kind.startswith(_NETWORK_FILE_SYSTEMS):
        remedy = (
            "MLflow's SQLite store is not safe there; set MLFLOW_TRACKING_URI to a tracking server, or --runs-dir to a "
            "local disk"
        )
        return Finding("runs folder", f"{description}, on a network file system ({kind})", True, remedy)
    return Finding("runs folder", f"{description}, on a local disk ({kind})" if kind else description)


def read_file_system_type(folder: Path, mounts: Path) -> str | None:
    """Returns the system's name of the file system type of a folder; None if unknown."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    matches: list[tuple[int, str]] = []
    for line in lines:
        mount_fields, _, type_fields = line.partition(" - ")
        mount_point = Path(mount_fields.split()[4].replace("\\040", " "))
        if folder.resolve().is_relative_to(mount_point):
            matches.append((len(mount_point.parts), type_fields.split()[0]))
    return max(reversed(matches), key=lambda match: match[0])[1] if matches else None


def _check_writable(parent: Path) -> Finding:
    try:
        with tempfile.TemporaryDirectory(prefix=".expfw-doctor-", dir=parent) as folder:
            first, second = (FileLock(Path(folder) / "lock", is_singleton=False) for _ in range(2))
            with first:
                try:
                    second.acquire(timeout=0)
                    second.release()
                except Timeout:
                    return Finding("writing", "files can be written and locked")
        remedy = "set --runs-dir to another file system, or mount this one with locking"
        return Finding("writing", "file locks do not work: two processes get the same lock", False, remedy)
    except (OSError, NotImplementedError) as error:
        result = f"cannot write or lock files in {parent}: {to_one_line(str(error))}"
        return Finding("writing", result, False, "allow writing, or choose another folder with --runs-dir FOLDER")


def _check_disk_space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / GIB
    result = f"{free:.1f} GiB free"
    remedy = "to free space: expfw runs clean --checkpoints-only, or --keep-best 5 --older-than 30d"
    return Finding("disk", result, free >= _MINIMUM_GIB, remedy if free < _ENOUGH_GIB else "")


def _check_unfinished_work(workspace: Workspace) -> Iterator[Finding]:
    runs_dir_option = workspace.runs_dir_option
    undelivered = running = 0
    for entry in (*workspace.list_sweeps(), *workspace.list_runs()):
        if entry.status == RUNNING:
            running += 1
        elif names := trackers.get_tracker_names(entry):
            progress = delivery.describe_progress(entry.folder)
            undelivered += any(progress.get(name) != delivery.COMPLETE for name in names)
    if running:
        yield Finding("running", f"runs and sweeps in progress: {running}")
    if undelivered:
        result = f"runs and sweeps not delivered to the trackers: {undelivered}"
        yield Finding("delivery", result, True, f"expfw runs sync{runs_dir_option}")
    else:
        yield Finding("delivery", "all runs and sweeps delivered to the trackers")
    if unfinished := removal.find_unfinished(workspace.runs_dir.absolute()):
        yield Finding(
            "deletion",
            f"{pluralize(len(unfinished), 'folder')} of interrupted deletions",
            True,
            f"expfw runs clean --yes{runs_dir_option}",
        )
