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
from expfw.system.formatting import GIB
from expfw.system.process_exit import get_control_group

_FIRST_PYTHON, _LAST_PYTHON = (3, 11), (3, 13)
_MINIMUM_GIB, _ENOUGH_GIB = 1.0, 3.0
_MINIMUM_SHARED_BYTES = 32 * 2**20


def check_machine(root: Path = Path("/")) -> Iterator[Finding]:
    """Checks the machine.

    Args:
        root: folder that contains `proc`, `sys` and `dev`; a different one in tests.
    """
    is_supported = _FIRST_PYTHON <= sys.version_info[:2] <= _LAST_PYTHON
    advice = "create an environment with Python {}.{} to {}.{}".format(*_FIRST_PYTHON, *_LAST_PYTHON)
    version = f"{platform.python_version()} ({sys.executable})"
    yield Finding("Python", version, is_supported, "" if is_supported else advice)
    yield _check_cores(get_control_group(root))
    yield _check_memory(get_control_group(root))
    shared_memory = root / "dev" / "shm"
    if not shared_memory.exists() and platform.system() != "Linux":
        return
    if not os.access(shared_memory, os.W_OK):
        yield Finding("/dev/shm", "missing or not writable", False, "mount it: docker run --shm-size=1g")
        return
    free = shutil.disk_usage(shared_memory).free
    is_enough = free >= _MINIMUM_SHARED_BYTES
    advice = "enlarge it: docker run --shm-size=1g"
    yield Finding("/dev/shm", f"{free / GIB:.1f} GiB free", is_enough, "" if is_enough else advice)


def _check_cores(group: Path) -> Finding:
    usable, installed = len(cpu.get_cores()), os.cpu_count() or 1
    result = f"{usable} of {installed} CPU cores can be used" if usable < installed else f"{usable} CPU cores"
    quota, period = _read_number(group / "cpu.max"), _read_number(group / "cpu.max", 1)
    if quota is not None and period and quota / period < usable:
        share = quota / period
        advice = f"give the container more CPU, or train with backend.threads={max(1, round(share))}"
        return Finding("cores", f"{result}, but the container is limited to {share:g}", True, advice)
    return Finding("cores", result)


def _check_memory(group: Path) -> Finding:
    memory = psutil.virtual_memory()
    free, total, owner_text = memory.available, memory.total, ""
    limit, used = _read_number(group / "memory.max"), _read_number(group / "memory.current")
    if limit is not None and limit < total:
        free, total, owner_text = min(free, max(0, limit - (used or 0))), limit, " in this container"
    result = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free{owner_text}"
    if free < _MINIMUM_GIB * GIB:
        advice = "stop other programs; TensorFlow alone needs half a GiB in each process"
        return Finding("memory", result, False, advice)
    advice = "each trial of a sweep needs about half a GiB; sweep.slots=1 runs one trial at a time"
    return Finding("memory", result, True, advice if free < _ENOUGH_GIB * GIB else "")


def _read_number(path: Path, index: int = 0) -> int | None:
    """Reads a number from a file of a control group; None if it is `max` or missing."""
    try:
        return int(path.read_text().split()[index])
    except (OSError, ValueError, IndexError):
        return None
