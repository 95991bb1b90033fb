"""Fork server: a warm process that forks trials."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path

from expfw.system.redirection import redirect_fd

_FIRST_MODULES = ("expfw.sweeps.local.preload_begin", "expfw.sweeps.local.trial_process", "safetensors.numpy")
_LAST_MODULE = "expfw.sweeps.local.preload_end"


def get_context(modules: Sequence[str], log: Path) -> ForkServerContext | SpawnContext:
    """Returns the context that starts trial processes; starts its fork server if it is not running.

    A server that already served a sweep stays unchanged; trials import the modules that it does not have.

    Args:
        modules: modules that the server imports once; a trial that needs a missing module reports the error.
        log: file for the output of the server.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forkserver.set_forkserver_preload([*_FIRST_MODULES, *modules, _LAST_MODULE])
    sys.stdout.flush()
    sys.stderr.flush()
    was_set = "PYTHONSAFEPATH" in os.environ
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # the server imports nothing from the working directory
    try:
        with open(log, "ab") as file, redirect_fd(1, file.fileno()), redirect_fd(2, file.fileno()):
            forkserver.ensure_running()
    finally:
        if not was_set:
            del os.environ["PYTHONSAFEPATH"]
    return multiprocessing.get_context("forkserver")
