"""The failure bundle: files that explain why a run failed."""

from __future__ import annotations

import errno
import resource
import shutil
import sys
import traceback
from collections import deque
from pathlib import Path

from expfw.api.run import Run
from expfw.errors import RunsFolderError, TrainingError
from expfw.system import atomic_files
from expfw.tracking import run_folders

FOLDER = "failure"
_LOG_LINES = 200
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def write_bundle(run: Run, error: BaseException) -> Path:
    """Writes `failure/` to the run folder: traceback, step, memory, configuration, environment, end of the log."""
    folder = run.folder / FOLDER
    folder.mkdir(exist_ok=True)
    text = "".join(traceback.format_exception(error))
    atomic_files.write_text(folder / "traceback.txt", text, is_atomic=False)
    summary = {"error": f"{type(error).__name__}: {error}", "step": run.step, "epoch": run.epoch}
    summary |= {"metrics": run.metrics, "most_memory_mib": get_peak_memory_mib()}
    atomic_files.write_json(folder / "summary.json", summary, is_atomic=False, indent=2)
    for name in (run_folders.CONFIG_FILE, run_folders.ENVIRONMENT_FILE):
        if (run.folder / name).exists():
            shutil.copy(run.folder / name, folder / name)
    log = run.folder / run_folders.LOG_FILE
    if log.exists():
        with open(log, errors="replace") as log_file:
            text = "".join(deque(log_file, _LOG_LINES))
        atomic_files.write_text(folder / "end_of_log.txt", text, is_atomic=False)
    return folder


def explain_folder_error(run: Run, error: OSError) -> Exception:
    """Returns a `RunsFolderError` if the run folder is missing or its disk fails, otherwise the error itself."""
    if not run.folder.exists():
        folder_error = RunsFolderError(f"the run folder of {run.id} was deleted or moved during the run: {run.folder}")
    elif error.errno in _DISK_ERRORS:
        command = f"expfw runs resume {run.id}{run_folders.format_runs_dir_option(run.config.runs_dir)}"
        path = error.filename or run.folder
        folder_error = RunsFolderError(f"{error.strerror}: {path}; fix the problem, then: {command}")
    else:
        return error
    folder_error.exit_code = TrainingError.exit_code  # the run failed; its configuration was valid
    return folder_error


def get_peak_memory_mib() -> float:
    """Returns the peak memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
