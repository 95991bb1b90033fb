"""Descriptions of how a process ended."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path


def describe_exit(exit_code: int | None, memory_kills: int | None = None) -> str:
    """Returns an error text for a process that ended early; `memory_kills` is `count_oom_kills` at its start."""
    if exit_code is None:
        return "its process ended early, and its exit code is unknown"
    if exit_code >= 0:
        return f"its process ended early with exit code {exit_code}"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else "unknown"
    is_out_of_memory = memory_kills is not None and exit_code == -signal.SIGKILL and count_oom_kills() > memory_kills
    cause = ": the system ran out of memory" if is_out_of_memory else ""
    return f"its process ended early with signal {-exit_code} ({name}){cause}"


def count_oom_kills() -> int:
    """Returns how many processes the system has killed because of memory.

    Counts the control group of this process, or the machine if there is none; 0 if neither is known.
    """
    for path in (get_control_group() / "memory.events", Path("/proc/vmstat")):
        with suppress(OSError, ValueError, KeyError):
            counts = dict(line.split() for line in path.read_text().splitlines())
            return int(counts["oom_kill"])
    return 0


def get_control_group(root: Path = Path("/")) -> Path:
    """Returns the folder of the control group of this process; `root` contains `proc` and `sys`."""
    root_group = root / "sys/fs/cgroup"
    try:
        (own_line,) = (line for line in (root / "proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, ValueError):  # no control groups, or version 1
        return root_group
    return root_group / own_line.removeprefix("0::").lstrip("/")
