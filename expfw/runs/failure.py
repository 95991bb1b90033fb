"""The failure bundle: files that explain why a run failed."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import sys
import traceback
from collections import deque
from pathlib import Path

from expfw.api.run import Run
from expfw.errors import RunsFolderError, TrainingError
from expfw.redaction import find_secrets, hide_secrets
from expfw.tracking import run_folders

FOLDER = "failure"
_LOG_LINES = 200
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def write_bundle(run: Run, error: BaseException) -> Path:
    """Writes `failure/` to the run folder: traceback, step, memory, configuration, environment, end of the log."""
    folder = run.folder / FOLDER
    folder.mkdir(exist_ok=True)
    secret_texts = list(find_secrets(vars(run.config)))  # an error may quote them
    (folder / "traceback.txt").write_text(hide_secrets("".join(traceback.format_exception(error)), secret_texts))
    message = hide_secrets(f"{type(error).__name__}: {error}", secret_texts)
    summary = {"error": message, "step": run.step, "epoch": run.epoch, "metrics": run.metrics}
    (folder / "summary.json").write_text(json.dumps(summary | {"most_memory_mib": get_peak_memory_mib()}, indent=2))
    for name in (run_folders.CONFIG_FILE, run_folders.ENVIRONMENT_FILE):
        if (run.folder / name).exists():
            shutil.copy(run.folder / name, folder / name)
    log = run.folder / run_folders.LOG_FILE
    if log.exists():
        with open(log, errors="replace") as log_file:
            (folder / "end_of_log.txt").write_text(hide_secrets("".join(deque(log_file, _LOG_LINES)), secret_texts))
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
