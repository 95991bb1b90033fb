"""The machine: Python, processor cores, memory."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from expfw.cli.doctor.finding import Finding
from expfw.system import cpu
from expfw.system.process_limits import GIB, control_group

_PYTHONS = ((3, 11), (3, 13))
_LEAST_GIB, _ENOUGH_GIB = 1.0, 3.0
_LEAST_SHARED = 32 * 2**20


def findings(root: Path = Path("/")) -> Iterator[Finding]:
    """What there is to say of it.

    Args:
        root: where `proc`, `sys` and `dev` are; another one in tests.
    """
    yield _python()
    yield _cores(control_group(root))
    yield _memory(control_group(root))
    if (root / "dev" / "shm").exists() or platform.system() == "Linux":
        yield _shared_memory(root / "dev" / "shm")


def _python() -> Finding:
    first, last = _PYTHONS
    what = f"{platform.python_version()} ({sys.executable})"
    if first <= sys.version_info[:2] <= last:
        return Finding("Python", what)
    known = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
    return Finding("Python", what, False, f"make an environment with Python {known}")


def _cores(group: Path) -> Finding:
    usable, there = len(cpu.cores()), os.cpu_count() or 1
    what = f"{usable} of {there} usable" if usable < there else f"{usable}"
    allowed = _number(group / "cpu.max")
    period = _number(group / "cpu.max", 1)
    if allowed is not None and period and allowed / period < usable:
        share = allowed / period
        remedy = f"give the container more, or train with backend.threads={max(1, round(share))}"
        return Finding("cores", f"{what}, but the container may use {share:g} of them", True, remedy)
    return Finding("cores", what)


def _memory(group: Path) -> Finding:
    seen = psutil.virtual_memory()
    free, total, whose = seen.available, seen.total, ""
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is not None and limit < total:
        free, total, whose = min(free, max(0, limit - (used or 0))), limit, " of this container"
    what = f"{free / GIB:.1f} of {total / GIB:.1f} GiB{whose} free"
    if free < _LEAST_GIB * GIB:
        return Finding("memory", what, False, "end something else; TensorFlow alone takes half a GiB in each process")
    few = "each trial of a sweep takes about half a GiB: sweep.slots=1 runs one at a time"
    return Finding("memory", what, True, few if free < _ENOUGH_GIB * GIB else "")


def _shared_memory(place: Path) -> Finding:
    if not os.access(place, os.W_OK):
        return Finding("/dev/shm", "absent, or not writable", False, "mount it: docker run --shm-size=1g")
    free = shutil.disk_usage(place).free
    what = f"{free / GIB:.1f} GiB free"
    return Finding("/dev/shm", what, free >= _LEAST_SHARED, "" if free >= _LEAST_SHARED else "docker run --shm-size=1g")


def _number(path: Path, place: int = 0) -> int | None:
    """A number in a file of a control group; None where it says `max`, or is absent."""
    try:
        return int(path.read_text().split()[place])
    except (OSError, ValueError, IndexError):
        return None
