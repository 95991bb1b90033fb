"""The runs folder: on what it lies, whether it can be written and locked, and what is left to do in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from expfw.cli.doctor.finding import Finding
from expfw.cli.runs.clean import removal, trackers
from expfw.errors import one_line
from expfw.system.formatting import many
from expfw.system.process_limits import GIB
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_index import RUNNING
from expfw.tracking.shipper import delivery

_NETWORK = ("nfs", "cifs", "smb", "lustre", "beegfs", "gpfs", "ceph", "gluster", "9p", "afs", "fuse.sshfs", "pvfs")
_LEAST_GIB, _ENOUGH_GIB = 0.5, 5.0


def findings(runs_dir: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Iterator[Finding]:
    """What there is to say of it; what is not there yet, of the folder that it will be made in.

    Args:
        mounts: the system's table of file systems.
    """
    place = next(path for path in (runs_dir.absolute(), *runs_dir.absolute().parents) if path.exists())
    where = f"{runs_dir.absolute()}{'' if place == runs_dir.absolute() else ' (made by the first run)'}"
    yield _kind(place, where, mounts)
    yield _written(place)
    yield _room(place)
    if runs_dir.is_dir():
        yield from _left(runs_dir)


def _kind(place: Path, where: str, mounts: Path) -> Finding:
    kind = file_system(place, mounts)
    if kind is not None and kind.startswith(_NETWORK):
        remedy = (
            "MLflow's SQLite store is not safe there: set MLFLOW_TRACKING_URI to a tracking server, or --runs-dir to a "
            "local disk"
        )
        return Finding("runs folder", f"{where}, on the network ({kind})", True, remedy)
    return Finding("runs folder", f"{where}, on a local disk ({kind})" if kind else where)


def file_system(place: Path, mounts: Path) -> str | None:
    """The type of the file system that a folder is on, as the system calls it; None where it does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    known: list[tuple[int, str]] = []
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4].replace("\\040", " "))
        if place.resolve().is_relative_to(point):
            known.append((len(point.parts), right.split()[0]))
    return max(reversed(known), key=lambda one: one[0])[1] if known else None


def _written(place: Path) -> Finding:
    try:
        with tempfile.TemporaryDirectory(prefix=".expfw-doctor-", dir=place) as folder:
            first, second = (FileLock(Path(folder) / "lock", is_singleton=False) for _ in range(2))
            with first:
                try:
                    second.acquire(timeout=0)
                    second.release()
                except Timeout:
                    return Finding("writing", "files can be written and locked")
        remedy = "runs need locks that hold: --runs-dir on another file system, or mount this one with locking"
        return Finding("writing", "two processes get the same lock", False, remedy)
    except (OSError, NotImplementedError) as error:
        what = f"{place} cannot be written or locked ({one_line(str(error))})"
        return Finding("writing", what, False, "give it write permission, or another one with --runs-dir FOLDER")


def _room(place: Path) -> Finding:
    free = shutil.disk_usage(place).free / GIB
    what = f"{free:.1f} GiB free"
    remedy = "expfw runs clean --checkpoints-only, or --keep-best 5 --older-than 30d, makes room"
    return Finding("disk", what, free >= _LEAST_GIB, remedy if free < _ENOUGH_GIB else "")


def _left(runs_dir: Path) -> Iterator[Finding]:
    where = run_folders.option(runs_dir)
    waiting = running = 0
    for entry in (*run_index.sweeps(runs_dir), *run_index.runs(runs_dir)):
        if entry.status == RUNNING:
            running += 1
        elif names := trackers.names(entry):
            progress = delivery.progress(entry.folder)
            waiting += any(progress.get(name) != delivery.COMPLETE for name in names)
    if running:
        yield Finding("running", f"{running} of the runs and sweeps at this moment")
    if waiting:
        what = f"{waiting} of the runs and sweeps {'has' if waiting == 1 else 'have'} not arrived at the trackers"
        yield Finding("delivery", what, True, f"expfw runs sync{where}")
    else:
        yield Finding("delivery", "trackers have everything")
    if rest := removal.unfinished(runs_dir.absolute()):
        yield Finding("deletion", f"half deleted: {many(len(rest), 'folder')}", True, f"expfw runs clean --yes{where}")
