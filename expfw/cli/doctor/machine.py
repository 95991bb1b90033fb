"""Checks of the machine: Python, CPU cores, memory."""

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
from expfw.system.process_limits import GIB, get_control_group

_SUPPORTED_PYTHONS = ((3, 11), (3, 13))
_MINIMUM_GIB, _ENOUGH_GIB = 1.0, 3.0
_MINIMUM_SHARED_BYTES = 32 * 2**20


def check_machine(root: Path = Path("/")) -> Iterator[Finding]:
    """Checks the machine.

    Args:
        root: folder that contains `proc`, `sys` and `dev`; a different one in tests.
    """
    yield _check_python()
    yield _check_cores(get_control_group(root))
    yield _check_memory(get_control_group(root))
    if (root / "dev" / "shm").exists() or platform.system() == "Linux":
        yield _check_shared_memory(root / "dev" / "shm")


def _check_python() -> Finding:
    first, last = _SUPPORTED_PYTHONS
    result = f"{platform.python_version()} ({sys.executable})"
    if first <= sys.version_info[:2] <= last:
        return Finding("Python", result)
    known = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
    return Finding("Python", result, False, f"create an environment with Python {known}")


def _check_cores(group: Path) -> Finding:
    usable, installed = len(cpu.get_cores()), os.cpu_count() or 1
    result = f"{usable} of {installed} CPU cores can be used" if usable < installed else f"{usable} CPU cores"
    quota = _read_number(group / "cpu.max")
    period = _read_number(group / "cpu.max", 1)
    if quota is not None and period and quota / period < usable:
        share = quota / period
        remedy = f"give the container more CPU, or train with backend.threads={max(1, round(share))}"
        return Finding("cores", f"{result}, but the container is limited to {share:g}", True, remedy)
    return Finding("cores", result)


def _check_memory(group: Path) -> Finding:
    memory = psutil.virtual_memory()
    free, total, owner_text = memory.available, memory.total, ""
    limit, used = _read_number(group / "memory.max"), _read_number(group / "memory.current")
    if limit is not None and limit < total:
        free, total, owner_text = min(free, max(0, limit - (used or 0))), limit, " in this container"
    result = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free{owner_text}"
    if free < _MINIMUM_GIB * GIB:
        return Finding(
            "memory", result, False, "stop other programs; TensorFlow alone needs half a GiB in each process"
        )
    slots_hint = "each trial of a sweep needs about half a GiB; sweep.slots=1 runs one trial at a time"
    return Finding("memory", result, True, slots_hint if free < _ENOUGH_GIB * GIB else "")


def _check_shared_memory(path: Path) -> Finding:
    if not os.access(path, os.W_OK):
        return Finding("/dev/shm", "missing or not writable", False, "mount it: docker run --shm-size=1g")
    free = shutil.disk_usage(path).free
    result = f"{free / GIB:.1f} GiB free"
    return Finding(
        "/dev/shm",
        result,
        free >= _MINIMUM_SHARED_BYTES,
        "" if free >= _MINIMUM_SHARED_BYTES else "enlarge it: docker run --shm-size=1g",
    )


def _read_number(path: Path, index: int = 0) -> int | None:
    """Reads a number from a file of a control group; None if it is `max` or missing."""
    try:
        return int(path.read_text().split()[index])
    except (OSError, ValueError, IndexError):
        return None
