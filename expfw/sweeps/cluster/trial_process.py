"""Trial process of a job on another machine."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from expfw.api.run_config import to_plain
from expfw.errors import ExpfwError, JournalError
from expfw.runs import one_run, recorded_setup, resume
from expfw.runs.request import PreparedRun, prepare_request
from expfw.sweeps.cluster import job_files
from expfw.sweeps.cluster.job_files import JobEnd, JobRequest
from expfw.system.signals import Killed
from expfw.tracking import run_index
from expfw.tracking.run_index import RUNNING, IndexEntry

_SHUTDOWN_SECONDS = 90.0


def main(path: Path) -> int:
    """Runs or resumes the trial. Its journal contains the result; the exit code is used only if there is no journal."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # for the job; schedulers signal all processes
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the process that started the job may ignore it
    threading.Thread(target=_interrupt_with_job, daemon=True).start()
    job_request = job_files.read_job_request(path)
    try:
        prepared = _prepare_run(job_request)
    except ExpfwError as error:
        job_files.write_end(path, JobEnd(reason=str(error)))
        return 1
    shipper_folder = prepared.request.delivery_folder
    if shipper_folder is not None and not shipper_folder.exists():
        prepared = prepared.change_request(delivery_folder=None)  # the main process and its shipper have ended
    try:
        one_run.execute(prepared)
    except (ExpfwError, KeyboardInterrupt, Killed):
        return 1  # already recorded; no traceback is needed
    return 0


def _prepare_run(job_request: JobRequest) -> PreparedRun:
    """Prepares the run of the job; resumes an existing run, after the sweep was resumed or the job was requeued."""
    request = job_request.request
    if not job_request.run_folder.exists():
        return prepare_request(request)
    if (entry := _wait_for_entry(job_request.run_folder)) is None:
        shutil.rmtree(job_request.run_folder)
        return prepare_request(request)
    accept = request.resume_point is not None and request.resume_point.accept_differences
    values = {name: value for name, value in to_plain(request.config).items() if name != "from_environment"}
    recorded_run = replace(
        recorded_setup.read_recorded_setup(entry), config_values=values
    )  # the journal has no secrets, but the request has
    resumed = resume.prepare_resume(recorded_run, Path(request.config.runs_dir), (), accept)
    return resumed.change_request(config=request.config, delivery_folder=request.delivery_folder)


def _wait_for_entry(folder: Path) -> IndexEntry | None:
    """Returns the recorded run; waits while another process is still stopping it or its machine does not respond."""
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    try:
        while (entry := run_index.read_entry(folder)).status == RUNNING and time.monotonic() < deadline:
            time.sleep(0.5)
        return entry
    except JournalError:
        return None


def _interrupt_with_job() -> None:
    """Interrupts this process as Ctrl-C does when its job dies, so that the end is recorded."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
