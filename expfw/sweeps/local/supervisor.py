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

from expfw.api.contracts import Backend, Plugin
from expfw.errors import TrainingError
from expfw.plugins.manager import preloads
from expfw.runs.one_run import execute
from expfw.runs.request import Request
from expfw.sweeps.local import fork_server
from expfw.sweeps.local.slots import Slot
from expfw.sweeps.local.trial_process import trial_process
from expfw.sweeps.runner import Work
from expfw.system.process_limits import Limits, how_it_ended, kill, out_of_memory
from expfw.system.signals import ignore_signals

_LOOK_SECONDS = 0.5


def to_preload(plugins: Sequence[Plugin], backend: Backend) -> list[str]:
    """What the server that forks trials imports for these plugins, of which the backend is one.

    The modules that they are in, too, unless one of them has imported a framework here: who does that on import may
    also use it on import.
    """
    wanted = preloads(plugins)
    if any(module in sys.modules for module in backend.preload):
        return wanted
    return [*wanted, *(type(plugin).__module__ for plugin in plugins)]


@dataclass
class _Trial:
    """A trial that runs.

    Attributes:
        scratch: its temporary files; out_of_memory: how often the system had ended a process for memory as it began.
        reason: why we ended it.
    """

    request: Request
    slot: Slot
    process: BaseProcess
    scratch: Path
    began: float
    out_of_memory: int
    reason: str | None = None

    def how(self) -> str:
        """How its process ended, after which nothing of it stays but what it recorded."""
        self.process.join()
        shutil.rmtree(self.scratch, ignore_errors=True)
        return self.reason or how_it_ended(self.process.exitcode, out_of_memory() > self.out_of_memory)


class Supervisor:
    """Starts a process per trial and says when it ended.

    Args:
        slots: one for each trial that runs at a time.
        preload: modules that the warm server imports once.
        log: file for what the server and the libraries print outside of any trial.
        limits: of each trial.
        make: makes the run, in the trial's process; a function of a module.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        preload: Sequence[str],
        log: Path,
        limits: Limits,
        make: Callable[[Request], Any] = execute,
    ) -> None:
        self.slots = slots
        self.make = make
        self.log = log
        self.limits = limits
        self.context: ForkServerContext | SpawnContext
        if fork_server.POSSIBLE:
            fork_server.tell(preload, log)
            self.context = multiprocessing.get_context("forkserver")
        else:
            self.context = multiprocessing.get_context("spawn")

    def run(self, work: Work) -> None:
        """Runs what there is, as many at a time as there are slots; see `Runner`."""
        free = list(self.slots)
        running: dict[int, _Trial] = {}
        try:
            while True:
                while free and (request := work.next_request()) is not None:
                    work.started(request)
                    trial = self._start(request, free.pop(0))
                    running[trial.process.sentinel] = trial
                if not running:
                    return
                ready = wait(list(running), timeout=_LOOK_SECONDS)
                for sentinel in [sentinel for sentinel in running if sentinel in ready]:
                    trial = running.pop(sentinel)
                    free.append(trial.slot)
                    work.ended(trial.request, trial.how())
                self._hold_to_limits(running.values())
                work.look()
        finally:
            ignore_signals()
            if running:
                print("expfw: ending; the trials that run may take some seconds for a checkpoint", file=sys.stderr)
            for trial in running.values():
                trial.process.terminate()
            for trial in running.values():
                trial.how()
                work.ended(trial.request, None)

    def _hold_to_limits(self, running: Iterable[_Trial]) -> None:
        for trial in running:
            assert trial.process.pid is not None
            if trial.reason is None:
                trial.reason = self.limits.exceeded(trial.process.pid, time.monotonic() - trial.began)
                if trial.reason is not None:
                    kill(trial.process.pid)

    def _start(self, request: Request, slot: Slot) -> _Trial:
        scratch = Path(tempfile.mkdtemp(prefix="expfw-trial-"))
        process = self.context.Process(target=trial_process, args=(request, slot, self.log, scratch, self.make))
        kills = out_of_memory()
        try:
            with without_script():
                process.start()
        except (EOFError, ConnectionError) as error:
            raise TrainingError(f"the server that forks the trials ended; {self.log} says why") from error
        return _Trial(request, slot, process, scratch, time.monotonic(), kills)


@contextmanager
def without_script() -> Iterator[None]:
    """Processes started meanwhile do not import once more the script that this one was started with."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
