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

from expfw.errors import to_one_line
from expfw.runs.one_run import LEAVE_TIMEOUT_SECONDS
from expfw.sweeps.cluster import trial_process
from expfw.sweeps.cluster.job_files import (
    BEGUN_SUFFIX,
    ENDED_SUFFIX,
    JobEnd,
    JobFiles,
    JobRequest,
    read_job_request,
    write_end,
)
from expfw.system.process_limits import count_oom_kills, describe_exit
from expfw.tracking import unfinished_run
from expfw.tracking.ledger import Ledger
from expfw.tracking.run_folders import LOG_FILE
from expfw.tracking.run_index import RUNNING

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class JobTask:
    """The task function that launchers take to other machines; which of the trials is its own, Hydra tells it."""

    job_files: JobFiles

    def __call__(self, config: Any) -> str | None:
        """Makes a trial; never raises for what becomes of it. Returns what could not be written down."""
        from hydra.core.hydra_config import HydraConfig

        path = self.job_files.get_path(HydraConfig.get().job.num)
        if not path.parent.exists():  # Hydra itself has made the sweep's folder where there was none
            return f"{path.parent} is not there on {platform.node()}; runs_dir must be a folder that all machines share"
        if path.exists() and not path.with_suffix(ENDED_SUFFIX).exists():
            _run_job(read_job_request(path))
        return None


def _run_job(job_request: JobRequest) -> None:
    """Starts the trial's process and stays with it.

    A job that its scheduler ends and starts again, by an exit from a signal's handler, marks no end: it goes on then.
    """
    request, ledger = job_request.request, Ledger(job_request.sweep_folder)
    ledger.write(
        replace(
            ledger.read_trial(job_request.trial_number),
            status=RUNNING,
            run_id=request.id,
            folder=str(job_request.run_folder),
        )
    )
    job_request.path.with_suffix(BEGUN_SUFFIX).touch()
    with _collect_signals() as received_signals:
        try:
            end = _wait_for_end(job_request, received_signals)
        except OSError as error:
            end = JobEnd(f"its process could not be started on {platform.node()}: {error}")
        except SystemExit:
            raise
        except BaseException as error:  # whatever a launcher makes of signals of its own
            if isinstance(error, subprocess.CalledProcessError) and -error.returncode in received_signals:
                raise SystemExit(1) from error  # Slurm ended even the command that asked it to start the job again
            end = JobEnd(reason=to_one_line(f"its job was ended ({type(error).__name__}: {error})"))
        if end.exit_description is not None:
            unfinished_run.record_death(job_request.run_folder, end.exit_description)
        if not job_request.end_file.exists():  # the trial's process has said why it could not go on
            write_end(job_request.path, end)


@contextmanager
def _collect_signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM that came. They raise nothing, since they come amid what schedulers' own handlers do: Slurm
    sends SIGTERM to a job that is just asking to be started again.
    """
    received_signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received_signals
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous_handlers = {
        number: signal.signal(number, lambda number, frame: received_signals.append(number)) for number in numbers
    }
    try:
        yield received_signals
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def _wait_for_end(job_request: JobRequest, received_signals: Sequence[int]) -> JobEnd:
    """Waits for the end of the trial's process, or for a wish that it end."""
    memory_kills = count_oom_kills()
    with (
        tempfile.TemporaryDirectory(prefix="expfw-trial-") as scratch,
        _start_trial_process(job_request, scratch) as process,
    ):
        while process.poll() is None:
            if received_signals:
                return JobEnd(reason=f"its job was ended by {signal.Signals(received_signals[0]).name}")
            if not job_request.path.exists():
                return JobEnd()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        return JobEnd(describe_exit(process.returncode, count_oom_kills() > memory_kills))


@contextmanager
def _start_trial_process(job_request: JobRequest, scratch: str) -> Iterator[subprocess.Popen[bytes]]:
    """The trial's process, which leaves as by Ctrl-C when we do.

    It has a session of its own, but some schedulers signal every process of a job. Another signal than their SIGTERM,
    soon after it, is the same wish to it, see `ReceivedSignal`.
    """
    command = [sys.executable, "-P", "-m", trial_process.__name__, str(job_request.path)]
    environment = {**os.environ, **job_request.environment, "TMPDIR": scratch}
    with open(job_request.sweep_folder / LOG_FILE, "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=job_request.working_directory,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(2 * LEAVE_TIMEOUT_SECONDS + 5)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it, or what it left behind
        process.wait()
