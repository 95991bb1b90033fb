"""What a job does that Hydra's launcher started somewhere: it makes one trial, in a process of its own."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from expfw.errors import one_line
from expfw.runs.one_run import LEAVE_SECONDS
from expfw.sweeps.cluster import orders
from expfw.sweeps.cluster.orders import End, Order, Orders
from expfw.system.process_limits import how_it_ended, out_of_memory
from expfw.tracking import interrupted
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_folders import LOG
from expfw.tracking.run_index import RUNNING

_LOOK_SECONDS = 0.5


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
    with _signals() as received:
        try:
            end = _end(order, received)
        except OSError as error:
            end = End(f"its process could not be started on {platform.node()}: {error}")
        except SystemExit:
            raise
        except BaseException as error:  # whatever a launcher makes of signals of its own
            if isinstance(error, subprocess.CalledProcessError) and -error.returncode in received:
                raise SystemExit(1) from error  # Slurm ended even the command that asked it to start the job again
            end = End(why=one_line(f"its job was ended ({type(error).__name__}: {error})"))
        if end.how is not None:
            interrupted.record_death(order.folder, end.how)
        if not order.ended.exists():  # the trial's process has said why it could not go on
            orders.write_end(order.path, end)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM that came. They raise nothing, since they come amid what schedulers' own handlers do: Slurm
    sends SIGTERM to a job that is just asking to be started again.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(order: Order, received: Sequence[int]) -> End:
    """Waits for the end of the trial's process, or for a wish that it end."""
    kills = out_of_memory()
    with tempfile.TemporaryDirectory(prefix="expfw-trial-") as scratch, _process(order, scratch) as process:
        while process.poll() is None:
            if received:
                return End(why=f"its job was ended by {signal.Signals(received[0]).name}")
            if not order.path.exists():
                return End()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
        return End(how_it_ended(process.returncode, out_of_memory() > kills))


@contextmanager
def _process(order: Order, scratch: str) -> Iterator[subprocess.Popen[bytes]]:
    """The trial's process, which leaves as by Ctrl-C when we do.

    It has a session of its own, but some schedulers signal every process of a job. Another signal than their SIGTERM,
    soon after it, is the same wish to it, see `Received`.
    """
    command = [sys.executable, "-P", "-m", "expfw.sweeps.cluster.ordered_trial", str(order.path)]
    environment = {**os.environ, **order.environment, "TMPDIR": scratch}
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
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(2 * LEAVE_SECONDS + 5)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it, or what it left behind
        process.wait()
