"""Trial process: one trial in a process from the fork server."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from expfw.errors import ExpfwError
from expfw.runs.one_run import execute_request
from expfw.runs.request import Request
from expfw.sweeps.local.slots import Slot
from expfw.system.signals import Killed


def run_trial_process(
    request: Request,
    slot: Slot,
    log: Path,
    scratch: Path,
    run_trial: Callable[[Request], Any] = execute_request,
) -> None:
    """Runs a trial. Its journal contains the result; the exit code is used only if there is no journal.

    Args:
        log: file for output outside of the run.
        scratch: folder for temporary files, which the caller deletes: a forked process exits without the cleanup of the
            files that TensorFlow creates for each traced function.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    if slot.gpus is not None:  # before any framework looks for devices
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def terminate_with_parent() -> None:  # its end is recorded even if the main process dies, for example by kill -9
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate_with_parent, daemon=True).start()
    tempfile.tempdir = str(scratch)
    try:
        run_trial(request)
    except (ExpfwError, KeyboardInterrupt, Killed):
        sys.exit(1)  # already recorded; no traceback is needed
