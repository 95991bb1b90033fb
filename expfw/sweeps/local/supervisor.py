"""Supervisor: runs trials on this machine, each in a new process from the fork server."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
from expfw.system.formatting import GIB
from expfw.system.process_exit import count_oom_kills, describe_exit
from expfw.system.signals import ignore_signals

_POLL_SECONDS = 0.5


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
    """A running trial; `memory_kills` is `count_oom_kills` at its start, `reason` why the supervisor killed it."""

    request: Request
    slot: Slot
    process: BaseProcess
    scratch: Path
    start_time: float
    memory_kills: int
    reason: str | None = None

    def wait_for_end(self) -> str:
        """Waits for the trial process, deletes its temporary files and returns the reason why it ended."""
        self.process.join()
        shutil.rmtree(self.scratch, ignore_errors=True)
        return self.reason or describe_exit(self.process.exitcode, self.memory_kills)


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
        self.context = fork_server.get_context(self.preload, self.log)

    def run(self, queue: TrialQueue) -> None:
        """Runs the trials of the queue, one per slot at a time; see `TrialQueue`."""
        free_slots = list(self.slots)
        running_trials: dict[int, _RunningTrial] = {}
        try:
            while True:
                while free_slots and (request := queue.next_request()) is not None:
                    queue.mark_trial_started(request)
                    trial = self._start_trial(request, free_slots.pop(0))
                    running_trials[trial.process.sentinel] = trial
                if not running_trials:
                    return
                ready = wait(list(running_trials), timeout=_POLL_SECONDS)
                for sentinel in [sentinel for sentinel in running_trials if sentinel in ready]:
                    trial = running_trials.pop(sentinel)
                    free_slots.append(trial.slot)
                    queue.mark_trial_ended(trial.request, trial.wait_for_end())
                for trial in running_trials.values():
                    self._enforce_limits(trial)
                queue.check_running_trials()
        finally:
            ignore_signals()
            if running_trials:
                print("expfw: stopping; running trials may need some seconds to write a checkpoint", file=sys.stderr)
            for trial in running_trials.values():
                trial.process.terminate()
            for trial in running_trials.values():
                trial.wait_for_end()
                queue.mark_trial_ended(trial.request, None)

    def _start_trial(self, request: Request, slot: Slot) -> _RunningTrial:
        scratch, memory_kills = Path(tempfile.mkdtemp(prefix="expfw-trial-")), count_oom_kills()
        arguments = (request, slot, self.log, scratch, self.run_trial)
        process = self.context.Process(target=fork_server.run_trial_process, args=arguments)
        try:
            with hide_main_script():
                process.start()
        except (EOFError, ConnectionError) as error:
            raise TrainingError(f"the fork server has ended unexpectedly; see {self.log}") from error
        return _RunningTrial(request, slot, process, scratch, time.monotonic(), memory_kills)

    def _enforce_limits(self, trial: _RunningTrial) -> None:
        """Kills a trial and its children if they have exceeded a limit."""
        timeout, memory, used_bytes = self.settings.timeout, self.settings.memory, 0
        if trial.reason is not None or (timeout is None and memory is None):
            return
        processes: list[psutil.Process] = []
        with suppress(psutil.Error):  # it has just ended
            root = psutil.Process(trial.process.pid)
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
