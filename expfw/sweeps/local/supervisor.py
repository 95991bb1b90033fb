"""Runs trials on this machine, each in a fresh process, forked from a warm server that has imported the framework."""

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
    """What the server that forks trials imports for these plugins.

    The modules that they are in, too, unless one of them has imported a framework here: who does that on import may
    also use it on import.
    """
    modules = list_preload_modules(plugins.instances)
    if any(module in sys.modules for module in plugins.backend.preload):
        return modules
    return [*modules, *(type(plugin).__module__ for plugin in plugins.instances)]


@dataclass
class _RunningTrial:
    """A trial that runs.

    Attributes:
        scratch: its temporary files; memory_kills: how often the system had ended a process for memory as it began.
        reason: why we ended it.
    """

    request: Request
    slot: Slot
    process: BaseProcess
    scratch: Path
    start_time: float
    memory_kills: int
    reason: str | None = None

    def wait_for_end(self) -> str:
        """How its process ended, after which nothing of it stays but what it recorded."""
        self.process.join()
        shutil.rmtree(self.scratch, ignore_errors=True)
        return self.reason or describe_exit(self.process.exitcode, count_oom_kills() > self.memory_kills)


class Supervisor:
    """Starts a process per trial and says when it ended.

    Args:
        slots: one for each trial that runs at a time.
        preload: modules that the warm server imports once.
        log: file for what the server and the libraries print outside of any trial.
        limits: of each trial.
        run_trial: makes the run, in the trial's process; a function of a module.
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
        """Runs what there is, as many at a time as there are slots; see `TrialRunner`."""
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
                print("expfw: ending; the trials that run may take some seconds for a checkpoint", file=sys.stderr)
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
            raise TrainingError(f"the server that forks the trials ended; {self.log} says why") from error
        return _RunningTrial(request, slot, process, scratch, time.monotonic(), memory_kills)


@contextmanager
def hide_main_script() -> Iterator[None]:
    """Processes started meanwhile do not import once more the script that this one was started with."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
