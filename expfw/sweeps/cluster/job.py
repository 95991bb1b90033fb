"""Job of a Hydra launcher: runs one trial in a separate process; and its files, in a folder that all machines share."""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expfw.api.run_config import to_plain
from expfw.config.freeze import build_config
from expfw.errors import ExpfwError, JournalError, to_error_text
from expfw.plugins import disabling
from expfw.plugins.trust import Trust
from expfw.redaction import learn_secrets
from expfw.runs import one_run, resume
from expfw.runs.one_run import INTERRUPT_TIMEOUT_SECONDS
from expfw.runs.request import PreparedRun, Request, prepare_request
from expfw.runs.restore import ResumePoint
from expfw.system import atomic_files, process_lock
from expfw.system.process_exit import describe_exit
from expfw.system.signals import Killed, handle_signals
from expfw.system.subprocess_call import CallError, start_call
from expfw.system.temporary_folders import mark_used, temporary_folder
from expfw.tracking.ledger import Ledger
from expfw.tracking.recorded_run import RUNNING, read_run, record_death
from expfw.tracking.run_folders import LOG_FILE

FOLDER_NAME = "requests"
_POLL_SECONDS, _SHUTDOWN_SECONDS = 0.5, 90.0


@dataclass(frozen=True)
class JobEnd:
    """End of a trial process.

    Attributes:
        exit_description: description of the exit, for a run that recorded no end; None if the process was stopped and
            the run can be resumed.
        reason: reason why the process was stopped or could not resume; None if the sweep stopped it.
    """

    exit_description: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class JobFiles:
    """Request file of a job, and mark files next to it that record that its trial has begun and ended.

    If the request file is removed, a running trial stops, and a job that has not begun does nothing.
    """

    path: Path

    @property
    def begun_mark(self) -> Path:
        return self.path.with_suffix(".begun")

    @property
    def ended_mark(self) -> Path:
        return self.path.with_suffix(".ended")

    def write_request(self, request: Request) -> None:
        """Writes the request. Only the owner can read the file, because the configuration may contain a password."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.touch(mode=0o600)
        values = {"request": to_plain(request), "directory": Path.cwd(), "environment": disabling.get_variables()}
        self.path.write_text(json.dumps(values, default=str))

    def read_request(self) -> tuple[Request, Path, dict[str, str]]:
        """Returns the request, the sweep's working directory, and environment variables that disable plugins."""
        values = json.loads(self.path.read_text())
        fields = values["request"]
        fields |= {name: tuple(fields[name]) for name in ("overrides", "files")}
        fields |= {name: fields[name] and Path(fields[name]) for name in ("sweep_folder", "delivery_folder")}
        if (point := fields["resume_point"]) is not None:
            fields["resume_point"] = ResumePoint(**{**point, "folder": Path(point["folder"])})
        request = Request(**{**fields, "config": build_config(fields["config"])})
        learn_secrets(vars(request.config))
        return request, Path(values["directory"]), values["environment"]

    def write_end(self, end: JobEnd) -> None:
        """Marks the trial as ended."""
        atomic_files.write_json(self.ended_mark, vars(end))

    def read_end(self) -> JobEnd:
        """Reads how the trial has ended."""
        return JobEnd(**json.loads(self.ended_mark.read_text()))


@dataclass(frozen=True)
class JobTask:
    """Task function that a launcher sends to other machines; Hydra's job number selects the trial.

    `folder` contains the request files of all batches of jobs.
    """

    folder: Path
    batch: str

    def get_files(self, job: int) -> JobFiles:
        """Returns the files of a job, numbered from 0."""
        return JobFiles(self.folder / f"{self.batch}-{job:06d}.json")

    def __call__(self, config: Any) -> str | None:
        """Runs a trial; does not raise if the trial fails. Returns an error that could not be recorded, or None."""
        from hydra.core.hydra_config import HydraConfig

        files = self.get_files(HydraConfig.get().job.num)
        if not self.folder.exists():  # if the sweep folder was missing, Hydra has created it, but not this one
            return (
                f"folder {self.folder} does not exist on {platform.node()}; expected runs_dir in a folder that all "
                "machines share"
            )
        if files.path.exists() and not files.ended_mark.exists():
            _run_job(files)
        return None


def _run_job(files: JobFiles) -> None:
    """Starts the trial process and waits for it.

    If the scheduler restarts a job, by an exit from a signal handler, the job writes no end mark and resumes later.
    """
    request, working_directory, environment = files.read_request()
    folder = request.trial_folder
    assert request.sweep_folder is not None
    assert request.trial is not None
    ledger = Ledger(request.sweep_folder)
    ledger.write(replace(ledger.read_trial(request.trial), status=RUNNING, run_id=request.id, folder=str(folder)))
    files.begun_mark.touch()
    received_signals: list[int] = []
    # An exception could interrupt the scheduler's own handlers: Slurm sends SIGTERM to a job while the job requeues
    # itself.
    with handle_signals(lambda number, frame: received_signals.append(number)):
        try:
            end = _wait_for_end(files, working_directory, environment, received_signals)
        except OSError as error:
            end = JobEnd(f"its process could not be started on {platform.node()}: {error}")
        except SystemExit:
            raise
        except BaseException as error:  # launchers convert signals to exceptions of any type
            if isinstance(error, subprocess.CalledProcessError) and -error.returncode in received_signals:
                raise SystemExit(1) from error  # Slurm even killed the command that requeues the job
            end = JobEnd(reason=to_error_text(f"its job was stopped ({type(error).__name__}: {error})"))
        if end.exit_description is not None:
            record_death(folder, end.exit_description)
        files.write_end(end)


def _wait_for_end(
    files: JobFiles, working_directory: Path, environment: Mapping[str, str], received_signals: Sequence[int]
) -> JobEnd:
    """Waits until the trial process ends, a signal arrives or the request is withdrawn; then stops the process as
    Ctrl-C does.

    The process has a separate session, but some schedulers signal every process of a job. Our SIGINT soon after their
    SIGTERM counts as the same interrupt, see `raise_on_signals`.
    """
    with (
        temporary_folder(Path(tempfile.gettempdir()), prefix="expfw-") as scratch,
        start_call(
            run_trial,
            files.path,
            log=files.path.parent.parent / LOG_FILE,
            environment={**environment, "TMPDIR": str(scratch)},
            working_directory=working_directory,
            inherit_path=False,
            end_with_parent=signal.SIGINT,
        ) as call,
    ):
        try:
            while call.process.poll() is None:
                if received_signals:
                    return JobEnd(reason=f"its job was stopped by {signal.Signals(received_signals[0]).name}")
                if not files.path.exists():
                    return JobEnd()
                with suppress(subprocess.TimeoutExpired):
                    call.process.wait(_POLL_SECONDS)
            call.wait_for_result()
        except CallError as error:
            return JobEnd(str(error))
        except ExpfwError as error:
            return JobEnd(reason=str(error))
        finally:
            if call.process.poll() is None:
                call.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    call.process.wait(2 * INTERRUPT_TIMEOUT_SECONDS + 5)
        return JobEnd(describe_exit(0))


def run_trial(path: str) -> None:
    """Runs or resumes the trial of a request file. Its journal contains the result, unless it cannot be prepared."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # for the job; schedulers signal all processes
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the process that started the job may ignore it
    mark_used(Path(tempfile.gettempdir()))
    prepared = _prepare_run(JobFiles(Path(path)).read_request()[0])
    try:
        one_run.execute(prepared)
    except (ExpfwError, KeyboardInterrupt, Killed):
        sys.exit(1)  # already recorded; no traceback is needed


def _prepare_run(request: Request) -> PreparedRun:
    """Prepares the run of the job; resumes an existing run, after the sweep was resumed or the job was requeued."""
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    while process_lock.has_live_process(request.trial_folder) and time.monotonic() < deadline:
        time.sleep(0.5)  # another process is still stopping it, or its machine does not respond
    try:
        recorded_run = read_run(request.trial_folder)
    except JournalError:
        if not process_lock.has_live_process(request.trial_folder):
            shutil.rmtree(request.trial_folder, ignore_errors=True)
        return prepare_request(request)
    accept = request.resume_point is not None and request.resume_point.accept_differences
    values = {name: value for name, value in to_plain(request.config).items() if name != "from_environment"}
    # The journal has no secrets, but the request has.
    recorded_run = replace(recorded_run, trust=Trust(request.files))
    resumed = resume.prepare_resume(recorded_run, (), accept, config_values=values)
    return resumed.change_request(config=request.config, delivery_folder=request.delivery_folder)
