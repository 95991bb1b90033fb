"""Runner that submits all trials at once to a Hydra launcher, for example for Slurm or Ray."""

from __future__ import annotations

import copy
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from expfw.errors import ExpfwError, JournalError, TrainingError
from expfw.runs.one_run import INTERRUPT_TIMEOUT_SECONDS
from expfw.runs.request import Request
from expfw.sweeps.cluster.job import FOLDER_NAME, JobTask
from expfw.sweeps.runner import TrialQueue
from expfw.system.formatting import pluralize
from expfw.system.process_exit import describe_exit
from expfw.system.signals import ignore_signals
from expfw.system.subprocess_call import SubprocessCall, start_call
from expfw.tracking.recorded_run import RUNNING, read_run
from expfw.tracking.run_folders import LOG_FILE

if TYPE_CHECKING:
    from omegaconf import DictConfig

_POLL_SECONDS = 0.5
_SHUTDOWN_SECONDS = 2 * INTERRUPT_TIMEOUT_SECONDS + 20
_MAX_SILENCE_SECONDS = 120.0
"""Maximum time without a mark from any trial after the launcher has ended; a shared folder may show files late."""


@dataclass
class ClusterRunner:
    """Runner for a launcher that returns when all its jobs have ended; follows trials by their mark files.

    `config` is Hydra's part of the configuration, see `make_launcher_config`.
    """

    launcher: str
    config: DictConfig
    folder: Path

    def run(self, queue: TrialQueue) -> None:
        """Runs the trials of the queue as one batch, and retries as another batch; see `TrialQueue`."""
        from omegaconf import OmegaConf

        requests_folder, log = self.folder / FOLDER_NAME, self.folder / LOG_FILE
        # Files from before a resume; their jobs end without doing anything.
        shutil.rmtree(requests_folder, ignore_errors=True)
        environment = {
            "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
            "PYTHONSAFEPATH": "1",  # no modules from the working directory
        }
        while requests := dict(enumerate(iter(queue.next_request, None))):
            task = JobTask(requests_folder, secrets.token_hex(4))
            for job, request in requests.items():
                task.get_files(job).write_request(request)
            arguments = (OmegaConf.to_yaml(self.config), requests_folder, task.batch, len(requests))
            # The launcher continues after this process has ended, as do jobs of a scheduler.
            with start_call(launch, *arguments, log=log, environment=environment, end_with_parent=None) as call:
                batch = _Batch(queue, task, call, requests)
                try:
                    batch.wait_for_jobs()
                except BaseException:
                    ignore_signals()
                    batch.shut_down()
                    raise
                if batch.waiting_requests:
                    raise TrainingError(
                        f"{pluralize(len(batch.waiting_requests), 'trial')} did not start: hydra/launcher="
                        f"{self.launcher} failed ({batch.describe_failure()}); see {log}; fix the problem, then resume "
                        "the sweep with `expfw sweeps resume`"
                    )
        shutil.rmtree(requests_folder, ignore_errors=True)


@dataclass
class _Batch:
    """The jobs of one call of the launcher; their requests are stored by job number."""

    queue: TrialQueue
    task: JobTask
    launcher: SubprocessCall
    waiting_requests: dict[int, Request]
    running_requests: dict[int, Request] = field(default_factory=dict)

    def wait_for_jobs(self) -> None:
        """Waits until all jobs have ended or no further progress is expected."""
        last_heard, any_began = time.monotonic(), False
        while self.waiting_requests or self.running_requests:
            exit_code = self.launcher.process.poll()  # before the marks are read
            changed = self._read_marks()
            any_began = any_began or changed
            if changed or exit_code is None or any(map(_is_running, self.running_requests.values())):
                last_heard = time.monotonic()
            elif (exit_code and not any_began) or time.monotonic() - last_heard > _MAX_SILENCE_SECONDS:
                break
            self.queue.check_running_trials()
            time.sleep(_POLL_SECONDS)
        self._withdraw_requests()
        for job in list(self.running_requests):
            self.queue.mark_trial_ended(
                self.running_requests.pop(job), f"its job ended before the run did ({self.describe_failure()})"
            )
        self.launcher.process.wait()

    def shut_down(self) -> None:
        """Stops all jobs: running trials write a checkpoint, waiting jobs end without doing anything."""
        self._withdraw_requests()
        deadline = time.monotonic() + _SHUTDOWN_SECONDS
        while self.running_requests and time.monotonic() < deadline:
            self._read_marks(is_interrupted=True)
            time.sleep(_POLL_SECONDS)
        for request in self.running_requests.values():
            self.queue.mark_trial_ended(request, None)
        process = self.launcher.process
        with suppress(subprocess.TimeoutExpired):
            process.wait(5.0 if self.waiting_requests else max(1.0, deadline - time.monotonic()))
        process.send_signal(signal.SIGTERM)  # it waits for jobs that are no longer needed
        with suppress(subprocess.TimeoutExpired):
            process.wait(10.0)  # it may cancel its jobs at a scheduler

    def describe_failure(self) -> str:
        """Returns why the launcher has ended."""
        try:
            self.launcher.wait_for_result()
        except ExpfwError as error:
            return str(error)
        return describe_exit(0)

    def _read_marks(self, is_interrupted: bool = False) -> bool:
        """Reports trials that have begun or ended since the last call; returns whether there were any."""
        folder, changed = self.task.folder, False
        marks = {path.name for path in folder.iterdir()} if folder.exists() else set()
        for job in [job for job in self.waiting_requests if self.task.get_files(job).begun_mark.name in marks]:
            self.running_requests[job] = self.waiting_requests.pop(job)
            self.queue.mark_trial_started(self.running_requests[job])
            changed = True
        for job in [job for job in self.running_requests if self.task.get_files(job).ended_mark.name in marks]:
            request, end = self.running_requests.pop(job), self.task.get_files(job).read_end()
            if end.reason is not None:
                print(f"expfw: trial {request.trial} ({request.config.name}): {end.reason}", file=sys.stderr)
            self.queue.mark_trial_ended(request, None if is_interrupted else end.exit_description)
            changed = True
        return changed

    def _withdraw_requests(self) -> None:
        for path in self.task.folder.glob("*.json"):
            path.unlink(missing_ok=True)


def _is_running(request: Request) -> bool:
    try:
        return read_run(request.trial_folder).status == RUNNING
    except JournalError:
        return False


def launch(config_yaml: str, folder: str, batch: str, job_count: int) -> None:
    """Launches the jobs and returns when all have ended; for the other arguments, see `JobTask`.

    Called in a separate process, which isolates the launcher's output, child processes and errors, and which continues
    after Ctrl-C until all trials have ended.
    """
    from hydra._internal.callbacks import Callbacks  # launchers need it, and Hydra has no public class
    from hydra.conf import HydraConf
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext
    from omegaconf import OmegaConf

    schema = OmegaConf.create({"hydra": HydraConf})  # launchers need its types
    OmegaConf.set_struct(schema.hydra, False)  # Hydra's own values contain undeclared keys
    config = cast("DictConfig", OmegaConf.merge(schema, OmegaConf.create(config_yaml)))
    # Jobs compose nothing, because their requests are in files.
    config_loader = SimpleNamespace(load_sweep_config=lambda hydra_config, overrides: copy.deepcopy(hydra_config))
    context = HydraContext(config_loader=config_loader, callbacks=Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(context, JobTask(Path(folder), batch), config)
    for job_return in launcher.launch([[] for _ in range(job_count)], initial_job_idx=0):
        if job_return.return_value is not None:
            raise TrainingError(job_return.return_value)
