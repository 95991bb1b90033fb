"""Description of the machine and the package versions of a benchmark."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path

from rich.console import Console

log = Console(stderr=True)


def describe_machine() -> str:
    cpu_info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", cpu_info)
    instruction_sets = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in cpu_info]
    cores = f"{len(os.sched_getaffinity(0))} cores"
    return f"{model[1] if model else platform.machine()}, {cores}, {' '.join(instruction_sets)}; {platform.platform()}"


def format_versions(python: str, packages: list[str]) -> str:
    code = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    installed = json.loads(done.stdout)
    return ", ".join(f"{name} {installed[name]}" for name in packages if name in installed)
