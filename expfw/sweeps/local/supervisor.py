"""Supervisor: runs trials on this machine, each in a new process from the fork server."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from expfw.config.run_plugins import RunPlugins
from expfw.errors import TrainingError
from expfw.plugins.manager import list_preload_modules
from expfw.runs.one_run import execute_request
from expfw.runs.request import Request
from expfw.sweeps.local import fork_server
from expfw.sweeps.local.slots import Slot
from expfw.sweeps.local.trial_process import run_trial_process
from expfw.sweeps.runner import TrialQueue
from expfw.system.process_limits import Limits, count_oom_kills, describe_exit, kill_process_tree
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
    """A running trial.

    Attributes:
        request: request of the trial.
        slot: slot that it uses.
        process: trial process.
        scratch: folder of its temporary files.
        start_time: start time, on the monotonic clock.
        memory_kills: number of processes that the system had killed for lack of memory at the start.
        reason: reason why the supervisor killed it, or None.
    """

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
        return self.reason or describe_exit(self.process.exitcode, count_oom_kills() > self.memory_kills)


class Supervisor:
    """Starts one process per trial and reports its end.

    Args:
        slots: one slot for each trial that runs at a time.
        preload: modules that the fork server imports once.
        log: file for the output of the fork server and of libraries outside of trials.
        limits: limits of each trial.
        run_trial: function that runs the request in the trial process; must be importable from its module.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        preload: Sequence[str],
        log: Path,
        limits: Limits,
        run_trial: Callable[[Request], Any] = execute_request,
    ) -> None:
        self.slots = slots
        self.run_trial = run_trial
        self.log = log
        self.limits = limits
        self.context: ForkServerContext | SpawnContext
        if fork_server.IS_SUPPORTED:
            fork_server.ensure_running(preload, log)
            self.context = multiprocessing.get_context("forkserver")
        else:
            self.context = multiprocessing.get_context("spawn")

    def run(self, queue: TrialQueue) -> None:
        """Runs the trials of the queue, one per slot at a time; see `TrialRunner`."""
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
                self._enforce_limits(running_trials.values())
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

    def _enforce_limits(self, running_trials: Iterable[_RunningTrial]) -> None:
        for trial in running_trials:
            assert trial.process.pid is not None
            if trial.reason is None:
                trial.reason = self.limits.find_exceeded_limit(trial.process.pid, time.monotonic() - trial.start_time)
                if trial.reason is not None:
                    kill_process_tree(trial.process.pid)

    def _start_trial(self, request: Request, slot: Slot) -> _RunningTrial:
        scratch = Path(tempfile.mkdtemp(prefix="expfw-trial-"))
        process = self.context.Process(
            target=run_trial_process, args=(request, slot, self.log, scratch, self.run_trial)
        )
        memory_kills = count_oom_kills()
        try:
            with hide_main_script():
                process.start()
        except (EOFError, ConnectionError) as error:
            raise TrainingError(f"the fork server has ended unexpectedly; see {self.log}") from error
        return _RunningTrial(request, slot, process, scratch, time.monotonic(), memory_kills)


@contextmanager
def hide_main_script() -> Iterator[None]:
    """Prevents processes started in this context from importing the main script of this process again."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
