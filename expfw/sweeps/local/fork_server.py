"""Fork server: a warm process that forks trial processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

from expfw.errors import ExpfwError
from expfw.runs.request import Request
from expfw.sweeps.local.slots import Slot
from expfw.system.redirection import redact_output, redirect_fd
from expfw.system.signals import Killed
from expfw.system.temporary_folders import get_process_folder, mark_used, remove_abandoned

_FIRST_MODULES = ("expfw.sweeps.local.preload_begin", __name__, "expfw.runs.one_run", "safetensors.numpy")
_MAX_FOLDER_LENGTH = 70
"""Characters; systems limit the path of a socket to about 100, of which multiprocessing adds 32."""
_LAST_MODULE = "expfw.sweeps.local.preload_end"


def get_context(modules: Sequence[str], log: Path) -> ForkServerContext | SpawnContext:
    """Returns the context that starts trial processes; starts its fork server if it is not running, or has died.

    A server that already served a sweep stays unchanged; trials import the modules that it does not have. A trial that
    needs a missing module reports the error. The output of the server goes to the file `log`.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forkserver.set_forkserver_preload([*_FIRST_MODULES, *modules, _LAST_MODULE])
    sys.stdout.flush()
    sys.stderr.flush()
    was_set, previous_folder = "PYTHONSAFEPATH" in os.environ, tempfile.tempdir
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # the server imports nothing from the working directory
    folder = get_process_folder()  # for the socket of the server, unless its path would be too long
    tempfile.tempdir = str(folder if len(str(folder)) <= _MAX_FOLDER_LENGTH else get_process_folder("/tmp"))
    try:
        with open(log, "ab") as file, redirect_fd(1, file.fileno()), redirect_fd(2, file.fileno()):
            forkserver.ensure_running()
    finally:
        tempfile.tempdir = previous_folder
        if not was_set:
            del os.environ["PYTHONSAFEPATH"]
    return multiprocessing.get_context("forkserver")


def run_trial_process(
    request: Request, slot: Slot, log: Path, scratch: Path, start: Connection, run_trial: Callable[[Request], Any]
) -> None:
    """Runs a trial. Its journal contains the result; the exit code is used only if there is no journal.

    Args:
        log: file for output outside of the run.
        scratch: folder for temporary files, which the caller deletes: a forked process exits without the cleanup of the
            files that TensorFlow creates for each traced function.
        start: connection to the caller, which sends a message as soon as it knows this process. If it is closed without
            a message, for example because the fork server died, the process ends before the trial starts.
    """
    try:
        start.recv_bytes()
    except EOFError:
        sys.exit(1)
    lock = mark_used(scratch.parent)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, slot.cores)
    if slot.gpus is not None:  # before any framework looks for devices
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    redact_output()
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
    finally:
        if wait([parent.sentinel], timeout=0):  # it was killed and cannot delete its temporary files
            os.close(lock)
            remove_abandoned(scratch.parents[1])
