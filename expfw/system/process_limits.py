"""What a trial may take, and how the end of its process is told."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Seconds and GiB of resident memory; None: as much as there is."""

    timeout: float | None = None
    memory: float | None = None

    def find_exceeded_limit(self, pid: int, seconds: float) -> str | None:
        """Which limit a process, that has run for so long, has exceeded together with its children, in words."""
        if self.timeout is not None and seconds > self.timeout:
            return f"took longer than sweep.timeout={self.timeout:g} seconds"
        if self.memory is not None and (memory_gib := _measure_memory(pid) / GIB) > self.memory:
            return f"took {memory_gib:.2f} GiB of memory, more than sweep.memory={self.memory:g}"
        return None


def _measure_memory(pid: int) -> int:
    """Bytes of memory of a process and its children, those that are shared among them once more for each."""
    total = 0
    for process in _list_process_tree(pid):
        try:
            total += int(process.memory_info().rss)
        except psutil.Error:
            continue  # it has just ended
    return total


def kill_process_tree(pid: int) -> None:
    """Ends a process and its children at once."""
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
    """How a process ended, in words.

    Args:
        out_of_memory: whether the system has ended processes for memory meanwhile.
    """
    if exit_code is None or exit_code >= 0:
        return f"its process ended with exit code {exit_code} before the run did"
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else "unknown"
    cause = ": the system ran out of memory" if out_of_memory and -exit_code == signal.SIGKILL else ""
    return f"its process ended with signal {-exit_code} ({name}) before the run did{cause}"


def count_oom_kills() -> int:
    """How often the system has ended a process for memory: of our control group, or of the machine where it has none.

    Each file has lines of a name and a number; 0 where neither tells.
    """
    for path in (get_control_group() / "memory.events", Path("/proc/vmstat")):
        try:
            counts = dict(line.split() for line in path.read_text().splitlines())
            return int(counts["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def get_control_group(root: Path = Path("/")) -> Path:
    """The folder of our control group, whose files say what it may take.

    Args:
        root: where `proc` and `sys` are.
    """
    root_group = root / "sys/fs/cgroup"
    try:
        (own_line,) = (line for line in (root / "proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, ValueError):  # no control groups, or those of version 1
        return root_group
    return root_group / own_line.removeprefix("0::").lstrip("/")
