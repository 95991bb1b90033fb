"""What a job does that Hydra's launcher started somewhere: it makes one trial, in a process of its own."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from expfw import aftermath
from expfw.cluster import orders
from expfw.cluster.orders import End, Order, Orders
from expfw.errors import one_line
from expfw.folders import RUNNING
from expfw.ledger import Ledger
from expfw.limits import how_it_ended, out_of_memory
from expfw.one_run import LEAVE_SECONDS, LOG
from expfw.signals import ignore_signals, signals_raise

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Jobs:
    """The task function that launchers take to other machines; which of the trials is its own, Hydra tells it."""

    orders: Orders

    def __call__(self, config: Any) -> str | None:
        """Makes a trial; never raises for what becomes of it. Returns what could not be written down."""
        from hydra.core.hydra_config import HydraConfig

        path = self.orders.path(HydraConfig.get().job.num)
        if not path.parent.exists():  # Hydra itself has made the sweep's folder where there was none
            return f"{path.parent} is not there on {platform.node()}; runs_dir must be a folder that all machines share"
        if path.exists() and not path.with_suffix(orders.ENDED).exists():
            _make(orders.read(path))
        return None


def _make(order: Order) -> None:
    """Starts the trial's process and stays with it.

    A job that its scheduler ends and starts again, by an exit from a signal's handler, marks no end: it goes on then.
    """
    request, ledger = order.request, Ledger(order.sweep_folder)
    ledger.write(replace(ledger.trial(order.number), status=RUNNING, run_id=request.id, folder=str(order.folder)))
    order.path.with_suffix(orders.BEGUN).touch()
    with signals_raise():
        try:
            end = End(_how_it_went(order))
        except OSError as error:
            end = End(f"its process could not be started on {platform.node()}: {error}")
        except SystemExit:
            raise
        except BaseException as error:  # whatever a launcher makes of signals; the trial left as by SIGTERM
            end = End(why=one_line(f"its job was ended ({type(error).__name__}: {error})"))
        ignore_signals()
        if end.how is not None:
            aftermath.record_death(order.folder, end.how)
        if not order.ended.exists():  # the trial's process has said why it could not go on
            orders.write_end(order.path, end)


def _how_it_went(order: Order) -> str | None:
    """How the trial's process ended, in words; None: it was asked to, because its order was withdrawn."""
    kills = out_of_memory()
    with tempfile.TemporaryDirectory(prefix="expfw-trial-") as scratch, _process(order, scratch) as process:
        while process.poll() is None:
            if not order.path.exists():
                return None
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
        return how_it_ended(process.returncode, out_of_memory() > kills)


@contextmanager
def _process(order: Order, scratch: str) -> Iterator[subprocess.Popen[bytes]]:
    """The trial's process, which leaves as by SIGTERM when we do; in a session of its own, so that it gets no signals
    that are meant for us.
    """
    command = [sys.executable, "-P", "-m", "expfw.cluster.ordered_trial", str(order.path)]
    environment = {**os.environ, "TMPDIR": scratch}
    with open(order.sweep_folder / LOG, "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=order.directory,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        ignore_signals()
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(2 * LEAVE_SECONDS + 5)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it, or what it left behind
        process.wait()
