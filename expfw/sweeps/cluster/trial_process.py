"""The process of one trial that a job somewhere makes."""

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
    """Makes the run, or goes on with it. Its journal tells the rest; the exit code is for those that leave none."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # schedulers send them to all processes of a job: meant for ours
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the job may have it ignored
    threading.Thread(target=_interrupt_with_job, daemon=True).start()
    job_request = job_files.read_job_request(path)
    try:
        prepared = _prepare_run(job_request)
    except ExpfwError as error:
        job_files.write_end(path, JobEnd(reason=str(error)))
        return 1
    shipper_folder = prepared.request.announce_to
    if shipper_folder is not None and not shipper_folder.exists():
        prepared = prepared.change_request(announce_to=None)  # the process of the sweep is gone, and its shipper too
    try:
        one_run.execute(prepared)
    except (ExpfwError, KeyboardInterrupt, Killed):
        return 1  # recorded already; no traceback is needed
    return 0


def _prepare_run(job_request: JobRequest) -> PreparedRun:
    """The run of the job; a run that exists already is resumed: the sweep was resumed, or the job was started again."""
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
    )  # the record has no secrets, the request has
    resumed = resume.prepare_resume(recorded_run, Path(request.config.runs_dir), (), accept)
    return resumed.change_request(config=request.config, announce_to=request.announce_to)


def _wait_for_entry(folder: Path) -> IndexEntry | None:
    """The run as it was left; a process that is still leaving it, or a machine that fell silent, is waited for."""
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    try:
        while (entry := run_index.read_entry(folder)).status == RUNNING and time.monotonic() < deadline:
            time.sleep(0.5)
        return entry
    except JournalError:
        return None


def _interrupt_with_job() -> None:
    """A trial whose job died leaves as by Ctrl-C: recorded, not left behind."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
