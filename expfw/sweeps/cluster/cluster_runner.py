"""Runner that submits all trials at once to a Hydra launcher, for example for Slurm or Ray."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.errors import JournalError, TrainingError
from expfw.runs.one_run import INTERRUPT_TIMEOUT_SECONDS
from expfw.runs.request import Request
from expfw.sweeps.cluster import job_files, launcher_process
from expfw.sweeps.cluster.job import JobTask
from expfw.sweeps.cluster.job_files import BEGUN_SUFFIX, ENDED_SUFFIX, JobFiles
from expfw.sweeps.cluster.launcher_process import LaunchSpec
from expfw.sweeps.runner import TrialQueue
from expfw.system.formatting import pluralize
from expfw.system.process_limits import describe_exit
from expfw.system.signals import ignore_signals
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_folders import LOG_FILE
from expfw.tracking.run_index import RUNNING

if TYPE_CHECKING:
    from omegaconf import DictConfig

_POLL_SECONDS = 0.5
_SHUTDOWN_SECONDS = 2 * INTERRUPT_TIMEOUT_SECONDS + 20
_MAX_SILENCE_SECONDS = 120.0
"""Maximum time without a mark from any trial after the launcher has ended; a shared folder may show files late."""


class ClusterRunner:
    """Runner for a launcher that returns when all its jobs have ended; follows trials by their mark files.

    Args:
        launcher: name of the launcher.
        config: Hydra's part of the configuration, see `LaunchSpec`.
        folder: sweep folder.
    """

    def __init__(self, launcher: str, config: DictConfig, folder: Path) -> None:
        self.launcher = launcher
        self.config = config
        self.folder = folder

    def run(self, queue: TrialQueue) -> None:
        """Runs the trials of the queue as one batch, and retries as another batch; see `TrialRunner`."""
        job_files.remove_job_files(self.folder)  # from before a resume; their jobs end without doing anything
        while requests := list(iter(queue.next_request, None)):
            launched_jobs = _LaunchedJobs(self, requests)
            try:
                launched_jobs.wait_for_jobs(queue)
            except BaseException:
                ignore_signals()
                launched_jobs.shut_down(queue)
                raise
            launched_jobs.check_all_begun()
        job_files.remove_job_files(self.folder)


class _LaunchedJobs:
    """The jobs of one call of the launcher.

    Attributes:
        runner: runner that launched the jobs.
        job_files: files of the jobs.
        waiting_requests: requests of jobs that have not begun, by job number.
        running_requests: requests of jobs that have begun but not ended, by job number.
        launch_spec: specification for the launcher process.
        process: launcher process.
    """

    def __init__(self, runner: ClusterRunner, requests: Sequence[Request]) -> None:
        self.runner = runner
        self.job_files = JobFiles(runner.folder)
        self.waiting_requests = dict(enumerate(requests))
        self.running_requests: dict[int, Request] = {}
        for job, request in self.waiting_requests.items():
            self.job_files.write_request(job, request)
        self.launch_spec = LaunchSpec(
            runner.config, JobTask(self.job_files), len(requests), self.job_files.folder / "error.txt"
        )
        self.process = launcher_process.start_launcher(self.launch_spec, runner.folder / LOG_FILE)

    def wait_for_jobs(self, queue: TrialQueue) -> None:
        """Waits until all jobs have ended or no further progress is expected."""
        last_heard, any_began = time.monotonic(), False
        while self.waiting_requests or self.running_requests:
            exit_code = self.process.poll()  # before the marks are read
            changed = self._read_marks(queue.mark_trial_started, queue.mark_trial_ended)
            any_began = any_began or changed
            nothing_to_expect = bool(exit_code) and not any_began
            if changed or exit_code is None or self._is_any_running():
                last_heard = time.monotonic()
            elif nothing_to_expect or time.monotonic() - last_heard > _MAX_SILENCE_SECONDS:
                break
            queue.check_running_trials()
            time.sleep(_POLL_SECONDS)
        self.job_files.withdraw_requests()
        for job in list(self.running_requests):
            queue.mark_trial_ended(
                self.running_requests.pop(job), f"its job ended before the run did ({self._describe_failure()})"
            )
        self.process.wait()

    def _read_marks(
        self, mark_started: Callable[[Request], None], mark_ended: Callable[[Request, str | None], None]
    ) -> bool:
        """Reports trials that have begun or ended since the last call; returns whether there were any."""
        marks, changed = self.job_files.list_marks(), False
        for job in [
            job for job in self.waiting_requests if self.job_files.get_path(job).with_suffix(BEGUN_SUFFIX).name in marks
        ]:
            self.running_requests[job] = self.waiting_requests.pop(job)
            mark_started(self.running_requests[job])
            changed = True
        for job in [
            job for job in self.running_requests if self.job_files.get_path(job).with_suffix(ENDED_SUFFIX).name in marks
        ]:
            request, end = self.running_requests.pop(job), self.job_files.read_end(job)
            if end.reason is not None:
                print(f"expfw: trial {request.trial} ({request.config.name}): {end.reason}", file=sys.stderr)
            mark_ended(request, end.exit_description)
            changed = True
        return changed

    def _is_any_running(self) -> bool:
        return any(_is_running(request) for request in self.running_requests.values())

    def shut_down(self, queue: TrialQueue) -> None:
        """Stops all jobs: running trials write a checkpoint, waiting jobs end without doing anything."""
        self.job_files.withdraw_requests()
        deadline = time.monotonic() + _SHUTDOWN_SECONDS
        while self.running_requests and time.monotonic() < deadline:
            self._read_marks(lambda request: None, lambda request, reason: queue.mark_trial_ended(request, None))
            time.sleep(_POLL_SECONDS)
        for request in self.running_requests.values():
            queue.mark_trial_ended(request, None)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(1.0, deadline - time.monotonic()) if not self.waiting_requests else 5.0)
        self.process.send_signal(signal.SIGTERM)  # it waits for jobs that are no longer needed

    def check_all_begun(self) -> None:
        """Checks that all jobs have begun.

        Raises:
            TrainingError: if some jobs have not begun.
        """
        if self.waiting_requests:
            raise TrainingError(
                f"{pluralize(len(self.waiting_requests), 'trial')} did not start: "
                f"hydra/launcher={self.runner.launcher} failed ({self._describe_failure()}); "
                f"see {self.runner.folder / LOG_FILE}; fix the problem, then resume the sweep with "
                "`expfw sweeps resume`"
            )

    def _describe_failure(self) -> str:
        if self.launch_spec.error_file.exists():
            return self.launch_spec.error_file.read_text()[:1000]
        return describe_exit(self.process.poll(), False)


def _is_running(request: Request) -> bool:
    assert request.sweep_folder is not None
    assert request.trial is not None
    try:
        return (
            run_index.read_entry(run_folders.get_trial_folder(request.sweep_folder, request.trial, request.id)).status
            == RUNNING
        )
    except JournalError:
        return False
