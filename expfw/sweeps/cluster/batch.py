"""Runs trials through one of Hydra's launchers, Slurm's or Ray's for example, which is given all of them at once."""

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
from expfw.runs.one_run import LEAVE_SECONDS
from expfw.runs.request import Request
from expfw.sweeps.cluster import launching, orders
from expfw.sweeps.cluster.job import Jobs
from expfw.sweeps.cluster.launching import Launch
from expfw.sweeps.cluster.orders import BEGUN, ENDED, Orders
from expfw.sweeps.runner import Work
from expfw.system.process_limits import how_it_ended
from expfw.system.signals import ignore_signals
from expfw.tracking import run_folders, run_index
from expfw.tracking.run_folders import LOG
from expfw.tracking.run_index import RUNNING

if TYPE_CHECKING:
    from omegaconf import DictConfig

_LOOK_SECONDS = 0.5
_LEAVING_SECONDS = 2 * LEAVE_SECONDS + 20
_PATIENCE_SECONDS = 120.0
"""How long nothing may be heard of any trial after the launcher came back; a shared folder may show things late."""


class Batch:
    """A runner for a launcher that comes back when all is over; trials are followed by the marks they leave.

    Args:
        launcher: its name.
        config: see `Launch`.
        folder: the sweep's.
    """

    def __init__(self, launcher: str, config: DictConfig, folder: Path) -> None:
        self.launcher = launcher
        self.config = config
        self.folder = folder

    def run(self, work: Work) -> None:
        """Runs what there is; then, as another batch, what that made necessary; see `Runner`."""
        orders.clear(self.folder)  # of an earlier life; its jobs find nothing to do
        while requests := list(iter(work.next_request, None)):
            launched = _Launched(self, requests)
            try:
                launched.follow(work)
            except BaseException:
                ignore_signals()
                launched.leave(work)
                raise
            launched.check_all_begun()
        orders.clear(self.folder)


class _Launched:
    """The jobs of one call of the launcher.

    Attributes:
        waiting, running: what has not begun, or not ended, by the jobs' numbers.
        process: the launcher's.
    """

    def __init__(self, batch: Batch, requests: Sequence[Request]) -> None:
        self.batch = batch
        self.orders = Orders(batch.folder)
        self.waiting = dict(enumerate(requests))
        self.running: dict[int, Request] = {}
        for job, request in self.waiting.items():
            self.orders.place(job, request)
        self.launch = Launch(batch.config, Jobs(self.orders), len(requests), self.orders.folder / "trouble.txt")
        self.process = launching.start(self.launch, batch.folder / LOG)

    def follow(self, work: Work) -> None:
        """Until all have ended, or nothing more is to be expected."""
        heard, any_began = time.monotonic(), False
        while self.waiting or self.running:
            code = self.process.poll()  # before the marks are read
            changed = self._read_marks(work.started, work.ended)
            any_began = any_began or changed
            nothing_to_expect = bool(code) and not any_began
            if changed or code is None or self._any_lives():
                heard = time.monotonic()
            elif nothing_to_expect or time.monotonic() - heard > _PATIENCE_SECONDS:
                break
            work.look()
            time.sleep(_LOOK_SECONDS)
        self.orders.withdraw()
        for job in list(self.running):
            work.ended(self.running.pop(job), f"its job ended before the run did ({self._trouble()})")
        self.process.wait()

    def _read_marks(self, started: Callable[[Request], None], ended: Callable[[Request, str | None], None]) -> bool:
        """Tells of the trials that have begun or ended since; returns whether any has."""
        marks, changed = self.orders.marks(), False
        for job in [job for job in self.waiting if self.orders.path(job).with_suffix(BEGUN).name in marks]:
            self.running[job] = self.waiting.pop(job)
            started(self.running[job])
            changed = True
        for job in [job for job in self.running if self.orders.path(job).with_suffix(ENDED).name in marks]:
            request, end = self.running.pop(job), self.orders.end(job)
            if end.why is not None:
                print(f"expfw: trial {request.trial} ({request.config.name}): {end.why}", file=sys.stderr)
            ended(request, end.how)
            changed = True
        return changed

    def _any_lives(self) -> bool:
        return any(_lives(request) for request in self.running.values())

    def leave(self, work: Work) -> None:
        """Ends what there is yet: the trials that run make their checkpoints, the others find nothing to do."""
        self.orders.withdraw()
        until = time.monotonic() + _LEAVING_SECONDS
        while self.running and time.monotonic() < until:
            self._read_marks(lambda request: None, lambda request, how: work.ended(request, None))
            time.sleep(_LOOK_SECONDS)
        for request in self.running.values():
            work.ended(request, None)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(1.0, until - time.monotonic()) if not self.waiting else 5.0)
        self.process.send_signal(signal.SIGTERM)  # it waits for jobs that have nothing to do

    def check_all_begun(self) -> None:
        """That there is nothing left.

        Raises:
            TrainingError: there is.
        """
        if self.waiting:
            raise TrainingError(
                f"{len(self.waiting)} of the trials did not begin, since hydra/launcher={self.batch.launcher} gave up "
                f"({self._trouble()}); {self.batch.folder / LOG} says more; when that is put right, "
                "`expfw sweeps resume` goes on"
            )

    def _trouble(self) -> str:
        if self.launch.trouble.exists():
            return self.launch.trouble.read_text()[:1000]
        return how_it_ended(self.process.poll(), False)


def _lives(request: Request) -> bool:
    assert request.sweep_folder is not None
    assert request.trial is not None
    try:
        return (
            run_index.entry(run_folders.trial_folder(request.sweep_folder, request.trial, request.id)).status == RUNNING
        )
    except JournalError:
        return False
