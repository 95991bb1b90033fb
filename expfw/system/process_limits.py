"""Limits of a trial, and descriptions of how its process ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Limits of a trial.

    Attributes:
        timeout: seconds; None for no limit.
        memory: GiB of resident memory; None for no limit.
    """

    timeout: float | None = None
    memory: float | None = None

    def find_exceeded_limit(self, pid: int, seconds: float) -> str | None:
        """Returns an error text for the limit that a process and its children have exceeded, or None.

        Args:
            pid: ID of the process.
            seconds: time since its start.
        """
        if self.timeout is not None and seconds > self.timeout:
            return f"took longer than sweep.timeout={self.timeout:g} seconds"
        if self.memory is not None and (memory_gib := _measure_memory(pid) / GIB) > self.memory:
            return f"used {memory_gib:.2f} GiB of memory, more than sweep.memory={self.memory:g}"
        return None


def _measure_memory(pid: int) -> int:
    """Returns the bytes of memory of a process and its children; shared memory counts for each of them."""
    total = 0
    for process in _list_process_tree(pid):
        try:
            total += int(process.memory_info().rss)
        except psutil.Error:
            continue  # it has just ended
    return total


def kill_process_tree(pid: int) -> None:
    """Kills a process and its children."""
    for process in _list_process_tree(pid):
        try:
            process.kill()
        except psutil.Error:
            continue  # it has just ended


def _list_process_tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def describe_exit(exit_code: int | None, out_of_memory: bool) -> str:
    """Returns an error text for a process that ended before its run.

    Args:
        exit_code: exit code; negative for a signal.
        out_of_memory: whether the system killed processes because of memory in the meantime.
    """
    if exit_code is None or exit_code >= 0:
        return f"its process ended with exit code {exit_code} before the run did"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else "unknown"
    cause = ": the system ran out of memory" if out_of_memory and -exit_code == signal.SIGKILL else ""
    return f"its process ended with signal {-exit_code} ({name}) before the run did{cause}"


def count_oom_kills() -> int:
    """Returns how many processes the system has killed because of memory.

    Counts the control group of this process, or the machine if there is none; 0 if neither is known.
    """
    for path in (get_control_group() / "memory.events", Path("/proc/vmstat")):
        try:
            counts = dict(line.split() for line in path.read_text().splitlines())
            return int(counts["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def get_control_group(root: Path = Path("/")) -> Path:
    """Returns the folder of the control group of this process.

    Args:
        root: folder that contains `proc` and `sys`.
    """
    root_group = root / "sys/fs/cgroup"
    try:
        (own_line,) = (line for line in (root / "proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, ValueError):  # no control groups, or version 1
        return root_group
    return root_group / own_line.removeprefix("0::").lstrip("/")
