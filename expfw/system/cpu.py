"""The processor cores of this process, and what the processor can do."""

from __future__ import annotations

import os
from pathlib import Path


def get_cores() -> list[int]:
    """The processor cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def limit_cores(count: int) -> None:
    """Lets this process use no more than so many cores: other numbers of threads add up in another order."""
    if hasattr(os, "sched_setaffinity") and 0 < count < len(get_cores()):
        os.sched_setaffinity(0, get_cores()[:count])


def get_cpu_features() -> list[str]:
    """Vector instructions that change the bits of a sum; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return sorted(f for f in flags if f.startswith(("avx", "amx", "fma", "sse4")))
