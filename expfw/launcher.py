"""The local launcher: each trial in a fresh process, forked from a warm server that has imported the framework."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from expfw import environment, one_run
from expfw.api import Backend, Plugin, Tracker
from expfw.errors import ExpfwError, TrainingError
from expfw.one_run import Request
from expfw.signals import Killed, ignore_signals

MOST_SLOTS = 8


class Launcher(HydraLauncher):
    """What Hydra's machinery sees: composes each job and hands it to the sweep that runs.

    `expfw sweep` sets `task_function` to an object with `launch_one_by_one`; see `expfw.one_sweep`.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader = hydra_context.config_loader
        self.config = config
        self.sweep: Any = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs all jobs; each is composed as it starts."""

        def compose(overrides: Sequence[str]) -> DictConfig:
            composed: DictConfig = self.loader.load_sweep_config(self.config, list(overrides))
            return composed

        objectives = self.sweep.launch_one_by_one(job_overrides, compose)
        return [
            JobReturn(overrides=o, _return_value=v, status=JobStatus.COMPLETED)
            for o, v in zip(job_overrides, objectives, strict=False)
        ]


def slots(count: int | None) -> list[set[int]]:
    """The processor cores of each of `count` slots; by default one slot per core, 8 at most.

    All have as many: with other numbers of threads the same trial would come to other bits.
    """
    cores = environment.cores()
    count = count or min(MOST_SLOTS, len(cores))
    size = max(1, len(cores) // count)
    return [{cores[(i * size + j) % len(cores)] for j in range(size)} for i in range(count)]


def to_preload(plugins: Sequence[Plugin], backend: Backend) -> list[str]:
    """What the server that forks trials imports for these plugins, in which the backend is one.

    The modules that they are in, too, unless one of them has imported a framework here: who does that on import may
    also use it on import.
    """
    wanted = [module for plugin in plugins if not isinstance(plugin, Tracker) for module in plugin.preload]
    if any(module in sys.modules for module in backend.preload):
        return wanted
    return [*wanted, *(type(plugin).__module__ for plugin in plugins)]


class Processes:
    """Starts a fresh process per trial and says when it ended.

    Args:
        slots: processor cores for each trial that runs at a time.
        preload: modules that the warm server imports once.
        log: file for what the server and the libraries print outside of any trial.
    """

    def __init__(self, slots: list[set[int]], preload: Iterable[str], log: Path) -> None:
        self.slots = slots
        self.log = log
        self.context: ForkServerContext | SpawnContext
        if "forkserver" in multiprocessing.get_all_start_methods():
            self.context = multiprocessing.get_context("forkserver")
            self.context.set_forkserver_preload([*preload, __name__, "expfw.warm"])
            with _output_to(log), _safe_path():  # where the server was started to write, it and its forks write
                forkserver.ensure_running()
        else:
            self.context = multiprocessing.get_context("spawn")

    def run(
        self,
        requests: Iterable[Request],
        started: Callable[[Request], None],
        ended: Callable[[Request, int | None], None],
    ) -> None:
        """Runs all requests, as many at a time as there are slots; takes the next request only when a slot is free."""
        free = list(self.slots)
        running: dict[int, tuple[set[int], BaseProcess, Request]] = {}
        waiting = iter(requests)
        more = True
        try:
            while more or running:
                while more and free:
                    request = next(waiting, None)
                    if request is None:
                        more = False
                        break
                    cores = free.pop(0)
                    started(request)
                    process = self._start(request, cores)
                    running[process.sentinel] = (cores, process, request)
                for sentinel in wait(list(running), timeout=1.0):
                    cores, process, request = running.pop(sentinel)  # type: ignore[arg-type]
                    process.join()
                    free.append(cores)
                    ended(request, process.exitcode)
        finally:
            ignore_signals()
            for _, process, _ in running.values():
                process.terminate()
            for _, process, request in running.values():
                process.join()
                ended(request, process.exitcode)

    def _start(self, request: Request, cores: set[int]) -> BaseProcess:
        process = self.context.Process(target=trial_process, args=(request, cores, self.log))
        try:
            with _no_script():
                process.start()
        except (EOFError, ConnectionError) as error:
            raise TrainingError(f"the server that forks the trials ended; {self.log} says why") from error
        return process


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes started meanwhile import nothing from the working directory."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _no_script() -> Iterator[None]:
    """Processes started meanwhile do not import once more the script that this one was started with."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    _redirect_output(path)
    try:
        yield
    finally:
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def _redirect_output(path: Path) -> None:
    """File descriptors 1 and 2 to the end of a file."""
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _end_with_the_command() -> None:
    """A trial whose command died, by kill -9 for example, ends as by SIGTERM: recorded, not left behind."""
    command = multiprocessing.parent_process()
    if command is not None:
        wait([command.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def trial_process(request: Request, cores: set[int], log: Path) -> None:
    """What a trial's process does. Its journal tells the rest; the exit code is for those that leave none."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    _redirect_output(log)
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    try:
        one_run.execute(request)
    except (ExpfwError, KeyboardInterrupt, Killed):
        sys.exit(1)  # recorded already; no traceback is needed
