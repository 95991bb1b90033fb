"""The failure bundle: what somebody needs who wants to know why a run failed."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import traceback
from collections import deque
from pathlib import Path

from expfw.run_state import Run

FOLDER = "failure"
_LOG_LINES = 200


def write_bundle(run: Run, error: BaseException, log: Path) -> Path:
    """Writes `failure/` into the run's folder: traceback, place and memory, configuration, environment, end of the log.

    Raises:
        OSError: it cannot be written.
    """
    folder = run.folder / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)))
    place = {"error": f"{type(error).__name__}: {error}", "step": run.step, "epoch": run.epoch, "metrics": run.metrics}
    (folder / "summary.json").write_text(json.dumps(place | {"most_memory_mib": most_memory_mib()}, indent=2))
    for name in ("config.yaml", "environment.json"):
        if (run.folder / name).exists():
            shutil.copy(run.folder / name, folder / name)
    if log.exists():
        with open(log, errors="replace") as lines:
            (folder / "end_of_log.txt").write_text("".join(deque(lines, _LOG_LINES)))
    return folder


def most_memory_mib() -> float:
    """The most memory that this process has had at a time, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
