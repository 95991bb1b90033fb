"""Memory and GPUs of this machine; imports no framework."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path


def get_memory_gib() -> float | None:
    """Returns the memory of the machine, rounded to 0.1 GiB; None if the system does not tell it."""
    with suppress(OSError, ValueError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return None


def list_gpu_names(driver_folder: Path = Path("/proc/driver/nvidia")) -> list[str]:
    """Returns the names of the NVIDIA GPUs of the machine."""
    names = []
    for path in sorted(driver_folder.glob("gpus/*/information")):
        with suppress(OSError):
            names += re.findall(r"^Model:\s*(.+?)\s*$", path.read_text(errors="replace"), re.MULTILINE)
    if names or shutil.which("nvidia-smi") is None:
        return names
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]  # Windows' subsystem for Linux has no folder
    with suppress(OSError, subprocess.SubprocessError):
        output = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, errors="replace", timeout=5)
        names = [line.strip() for line in output.splitlines() if line.strip()]
    return names
