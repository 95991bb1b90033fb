"""CPU cores of this process, and features of the CPU."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def get_cores() -> list[int]:
    """Returns the CPU cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def limit_cores(count: int) -> None:
    """Limits this process to `count` CPU cores; another number of threads would sum floats in another order."""
    if hasattr(os, "sched_setaffinity") and 0 < count < len(get_cores()):
        os.sched_setaffinity(0, get_cores()[:count])


def get_cpu_features() -> list[str]:
    """Returns the vector instructions that affect the rounding of sums; empty if the system does not list them."""
    flags = (_read_cpu_info("flags") or "").split()
    return sorted(f for f in flags if f.startswith(("avx", "amx", "fma", "sse4")))


def get_cpu_model() -> str:
    """Returns the name of the CPU, or its architecture if the system does not name it."""
    return _read_cpu_info("model name") or platform.processor() or platform.machine()


def _read_cpu_info(name: str) -> str | None:
    """Returns a value of the first CPU in `/proc/cpuinfo`; None if it is missing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)
