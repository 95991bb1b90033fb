"""What the process of one trial does, forked from the warm server."""

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
from expfw.system.redirection import redirect_output
from expfw.system.signals import Killed


def run_trial_process(
    request: Request,
    slot: Slot,
    log: Path,
    scratch: Path,
    run_trial: Callable[[Request], Any] = execute_request,
) -> None:
    """Makes the run. Its journal tells the rest; the exit code is for those that leave none.

    Args:
        scratch: folder for temporary files, which our caller removes: a forked process does not come to what would
            remove those that TensorFlow makes for each function it traces.
        run_trial: what makes the run.
    """
    slot.restrict_process()
    redirect_output(log)
    threading.Thread(target=_terminate_with_parent, daemon=True).start()
    tempfile.tempdir = str(scratch)
    try:
        run_trial(request)
    except (ExpfwError, KeyboardInterrupt, Killed):
        sys.exit(1)  # recorded already; no traceback is needed


def _terminate_with_parent() -> None:
    """A trial whose command died, by kill -9 for example, ends as by SIGTERM: recorded, not left behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
