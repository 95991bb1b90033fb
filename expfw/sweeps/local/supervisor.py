"""Supervisor: runs trials on this machine, each in a new process from the fork server."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from expfw.api.run_config import Sweep
from expfw.config.run_plugins import RunPlugins
from expfw.errors import TrainingError
from expfw.plugins.manager import list_preload_modules
from expfw.runs.one_run import execute_request
from expfw.runs.request import Request
from expfw.sweeps.local import fork_server
from expfw.sweeps.local.slots import Slot
from expfw.sweeps.runner import TrialQueue
from expfw.system import process_lock
from expfw.system.formatting import GIB
from expfw.system.process_exit import count_oom_kills, describe_exit
from expfw.system.signals import ignore_signals
from expfw.system.temporary_folders import get_process_folder

_POLL_SECONDS = 0.5
_MAX_STARTS = 5
_UNKNOWN_EXIT_CODE = 255
"""Exit code of a process whose fork server died."""


def list_server_modules(plugins: RunPlugins) -> list[str]:
    """Returns the modules that the fork server imports for these plugins.

    The modules of the plugins are included, except if one of them has imported a framework in this process: such a
    module may also use the framework during its import.
    """
    modules = list_preload_modules(plugins.instances)
    if any(module in sys.modules for module in plugins.backend.preload):
        return modules
    return [*modules, *(type(plugin).__module__ for plugin in plugins.instances)]


@dataclass
class _RunningTrial:
    """A running trial.

    Attributes:
        process: its process; the exit code comes from the fork server.
        identity: identifies the process, see `process_lock.identify_process`.
        scratch: folder of its temporary files.
        memory_kills: `count_oom_kills` at its start.
        reason: why the supervisor killed it.
    """

    request: Request
    slot: Slot
    process: BaseProcess
    identity: Mapping[str, Any]
    scratch: Path
    start_time: float
    memory_kills: int
    reason: str | None = None

    def has_ended(self) -> bool:
        """Returns whether the process has ended; it may outlive its fork server, which then reports its end."""
        return self.process.exitcode is not None and not process_lock.is_alive(self.identity)

    def terminate(self) -> None:
        """Sends SIGTERM to the process."""
        with suppress(ProcessLookupError):
            if process_lock.is_alive(self.identity):
                os.kill(self.identity["pid"], signal.SIGTERM)

    def clean_up(self) -> str:
        """Deletes the temporary files of the ended trial and returns the reason why it ended."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        exit_code = self.process.exitcode
        return self.reason or describe_exit(None if exit_code == _UNKNOWN_EXIT_CODE else exit_code, self.memory_kills)


def wait_for_change(trials: Sequence[_RunningTrial]) -> None:
    """Waits until the fork server reports the end of a trial, at most half a second."""
    wait([trial.process.sentinel for trial in trials if trial.process.exitcode is None], timeout=_POLL_SECONDS)


@dataclass
class Supervisor:
    """Starts one process per trial and reports its end.

    Attributes:
        preload: modules that the fork server imports once.
        log: file for the output of the fork server and of libraries outside of trials.
        run_trial: function that runs the request in the trial process; must be importable from its module.
    """

    slots: Sequence[Slot]
    preload: Sequence[str]
    log: Path
    settings: Sweep
    run_trial: Callable[[Request], Any] = execute_request

    def __post_init__(self) -> None:
        fork_server.get_context(self.preload, self.log)  # it imports modules while the first trial is composed

    def run(self, queue: TrialQueue) -> None:
        """Runs the trials of the queue, one per slot at a time; see `TrialQueue`."""
        free_slots = list(self.slots)
        running_trials: list[_RunningTrial] = []
        try:
            while True:
                while free_slots and (request := queue.next_request()) is not None:
                    queue.mark_trial_started(request)
                    running_trials.append(self._start_trial(request, free_slots.pop(0)))
                if not running_trials:
                    return
                wait_for_change(running_trials)
                for trial in [trial for trial in running_trials if trial.has_ended()]:
                    running_trials.remove(trial)
                    free_slots.append(trial.slot)
                    queue.mark_trial_ended(trial.request, trial.clean_up())
                for trial in running_trials:
                    self._enforce_limits(trial)
                queue.check_running_trials()
        finally:
            ignore_signals()
            if running_trials:
                print("expfw: stopping; running trials may need some seconds to write a checkpoint", file=sys.stderr)
            for trial in running_trials:
                trial.terminate()
            for trial in running_trials:
                while not trial.has_ended():
                    wait_for_change([trial])
                trial.clean_up()
                queue.mark_trial_ended(trial.request, None)

    def _start_trial(self, request: Request, slot: Slot) -> _RunningTrial:
        """Starts a trial, with another fork server if it has died or dies in the meantime."""
        scratch, memory_kills = Path(tempfile.mkdtemp(prefix="trial-", dir=get_process_folder())), count_oom_kills()
        for failure_count in range(_MAX_STARTS):
            time.sleep(failure_count * _POLL_SECONDS)  # a killed server may need time to end
            context = fork_server.get_context(self.preload, self.log)
            receiver, sender = context.Pipe(duplex=False)
            arguments = (request, slot, self.log, scratch, receiver, self.run_trial)
            process = context.Process(target=fork_server.run_trial_process, args=arguments)
            with receiver, sender:  # if the server dies after it has forked, the closed connection ends the process
                try:
                    with hide_main_script():
                        process.start()
                except (EOFError, ConnectionError):
                    continue
                identity: Mapping[str, Any] = {"pid": process.pid}
                with suppress(OSError):  # it has already ended
                    identity = process_lock.identify_process(identity["pid"])
                    sender.send_bytes(b"start")
                return _RunningTrial(request, slot, process, identity, scratch, time.monotonic(), memory_kills)
        raise TrainingError(f"the fork server has ended unexpectedly; see {self.log}")

    def _enforce_limits(self, trial: _RunningTrial) -> None:
        """Kills a trial and its children if they have exceeded a limit."""
        timeout, memory, used_bytes = self.settings.timeout, self.settings.memory, 0
        if trial.reason is not None or (timeout is None and memory is None):
            return
        processes: list[psutil.Process] = []
        with suppress(psutil.Error):  # it has just ended
            root = psutil.Process(trial.identity["pid"])
            processes = [root, *root.children(recursive=True)]
        for process in processes:
            with suppress(psutil.Error):
                used_bytes += process.memory_info().rss  # shared memory counts for each process
        if timeout is not None and time.monotonic() - trial.start_time > timeout:
            trial.reason = f"took longer than sweep.timeout={timeout:g} seconds"
        elif memory is not None and used_bytes > memory * GIB:
            trial.reason = f"used {used_bytes / GIB:.2f} GiB of memory, more than sweep.memory={memory:g}"
        else:
            return
        for process in processes:
            with suppress(psutil.Error):
                process.kill()


@contextmanager
def hide_main_script() -> Iterator[None]:
    """Prevents processes started in this context from importing the main script of this process again."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
