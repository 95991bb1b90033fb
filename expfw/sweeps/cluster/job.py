"""Job of a Hydra launcher: runs one trial in a separate process."""

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
from expfw.runs.one_run import INTERRUPT_TIMEOUT_SECONDS
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
    """Task function that a launcher sends to other machines; Hydra's job number selects the trial."""

    job_files: JobFiles

    def __call__(self, config: Any) -> str | None:
        """Runs a trial; does not raise if the trial fails. Returns an error that could not be recorded, or None."""
        from hydra.core.hydra_config import HydraConfig

        path = self.job_files.get_path(HydraConfig.get().job.num)
        if not path.parent.exists():  # if the sweep folder was missing, Hydra has created it, but not this one
            return (
                f"folder {path.parent} does not exist on {platform.node()}; expected runs_dir in a folder that all "
                "machines share"
            )
        if path.exists() and not path.with_suffix(ENDED_SUFFIX).exists():
            _run_job(read_job_request(path))
        return None


def _run_job(job_request: JobRequest) -> None:
    """Starts the trial process and waits for it.

    If the scheduler restarts a job, by an exit from a signal handler, the job writes no end mark and resumes later.
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
        except BaseException as error:  # launchers convert signals to exceptions of any type
            if isinstance(error, subprocess.CalledProcessError) and -error.returncode in received_signals:
                raise SystemExit(1) from error  # Slurm even killed the command that requeues the job
            end = JobEnd(reason=to_one_line(f"its job was stopped ({type(error).__name__}: {error})"))
        if end.exit_description is not None:
            unfinished_run.record_death(job_request.run_folder, end.exit_description)
        if not job_request.end_file.exists():  # otherwise the trial process has already written why it could not resume
            write_end(job_request.path, end)


@contextmanager
def _collect_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM without raising an exception, which could interrupt the scheduler's own handlers:
    Slurm sends SIGTERM to a job while the job requeues itself.
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
    """Waits until the trial process ends, a signal arrives or the request is withdrawn."""
    memory_kills = count_oom_kills()
    with (
        tempfile.TemporaryDirectory(prefix="expfw-trial-") as scratch,
        _start_trial_process(job_request, scratch) as process,
    ):
        while process.poll() is None:
            if received_signals:
                return JobEnd(reason=f"its job was stopped by {signal.Signals(received_signals[0]).name}")
            if not job_request.path.exists():
                return JobEnd()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        return JobEnd(describe_exit(process.returncode, count_oom_kills() > memory_kills))


@contextmanager
def _start_trial_process(job_request: JobRequest, scratch: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the trial process; at the end of the context, stops it with SIGINT as Ctrl-C does.

    The process has a separate session, but some schedulers signal every process of a job. Our SIGINT soon after their
    SIGTERM counts as the same interrupt, see `ReceivedSignal`.
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
                process.wait(2 * INTERRUPT_TIMEOUT_SECONDS + 5)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # the process or its remaining children
        process.wait()
