"""Runs trials through one of Hydra's launchers, Slurm's or Ray's for example, which is given all of them at once."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from expfw import folders, orders, terminal
from expfw.errors import JournalError, TrainingError, one_line
from expfw.folders import RUNNING
from expfw.job import Jobs
from expfw.one_run import LEAVE_SECONDS, LOG, Request
from expfw.orders import BEGUN, ENDED, Orders
from expfw.signals import ignore_signals

_LOOK_SECONDS = 0.5
_LEAVING_SECONDS = 2 * LEAVE_SECONDS + 20
_PATIENCE_SECONDS = 60.0
"""How long nothing may be heard of any trial after the launcher came back; a shared folder may show things late."""

Launch = Callable[[Jobs, Path, int], Sequence[Any]]
"""Launches so many jobs, whatever the launcher writes in a folder; returns what Hydra calls their JobReturns."""


class Batch:
    """As `Supervisor`, for a launcher that comes back when all is over; trials are followed by the marks they leave.

    Args:
        launcher: its name.
        folder: the sweep's.
    """

    def __init__(self, launch: Launch, launcher: str, folder: Path) -> None:
        self.launch = launch
        self.launcher = launcher
        self.folder = folder

    def run(
        self,
        next_request: Callable[[], Request | None],
        started: Callable[[Request], None],
        ended: Callable[[Request, str | None], None],
        look: Callable[[], None],
    ) -> None:
        """Runs what it is given; then, as another batch, what that made necessary.

        Args:
            next_request: asked until there is nothing more.
            started: told when a trial has begun, wherever it is.
            ended: told how its process ended; None: it was interrupted.
            look: called every now and then.

        Raises:
            TrainingError: the launcher gave up before every trial had begun.
        """
        orders.clear(self.folder)  # of an earlier life; its jobs find nothing to do
        with terminal.noise_to(self.folder / LOG):
            while requests := list(iter(next_request, None)):
                launched = _Launched(self, requests)
                try:
                    launched.follow(started, ended, look)
                finally:
                    ignore_signals()
                    launched.leave(ended)
                launched.check_all_begun()
        orders.clear(self.folder)


class _Launched:
    """The jobs of one call of the launcher.

    Attributes:
        waiting, running: what has not begun, or not ended, by the jobs' numbers.
        over: the launcher came back; error: what it raised.
    """

    def __init__(self, batch: Batch, requests: Sequence[Request]) -> None:
        self.batch = batch
        self.orders = Orders(batch.folder)
        self.waiting = dict(enumerate(requests))
        self.running: dict[int, Request] = {}
        self.over = threading.Event()
        self.error: BaseException | None = None
        for job, request in self.waiting.items():
            self.orders.place(job, request)
        self.thread = threading.Thread(target=self._launch, args=(len(requests),), name="launcher", daemon=True)
        self.thread.start()

    def _launch(self, count: int) -> None:
        try:
            for made in self.batch.launch(Jobs(self.orders), self.batch.folder, count):
                if made.return_value is not None:
                    raise TrainingError(made.return_value)
        except BaseException as error:  # whatever a launcher raises; the trials that live go on
            self.error = error
        finally:
            self.over.set()

    def follow(
        self,
        started: Callable[[Request], None],
        ended: Callable[[Request, str | None], None],
        look: Callable[[], None],
    ) -> None:
        """Until all have ended, or nothing more is to be expected."""
        heard = time.monotonic()
        any_began = False
        while self.waiting or self.running:
            over = self.over.is_set()  # before the marks are read
            changed = self._read_marks(started, ended)
            any_began = any_began or changed
            if changed or not over or self._any_lives():
                heard = time.monotonic()
            elif time.monotonic() - heard > (_PATIENCE_SECONDS if any_began else 0):
                break
            look()
            time.sleep(_LOOK_SECONDS)
        for job in list(self.running):
            ended(self.running.pop(job), f"its job ended before the run did{self._reason()}")

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

    def leave(self, ended: Callable[[Request, str | None], None]) -> None:
        """Ends what there is yet: the trials that run make their checkpoints, the others find nothing to do."""
        self.orders.withdraw()
        until = time.monotonic() + _LEAVING_SECONDS
        while self.running and time.monotonic() < until:
            self._read_marks(lambda request: None, lambda request, how: ended(request, None))
            time.sleep(_LOOK_SECONDS)
        for request in self.running.values():
            ended(request, None)
        self.thread.join(_LEAVING_SECONDS if not self.waiting else _LOOK_SECONDS)

    def check_all_begun(self) -> None:
        """That there is nothing left.

        Raises:
            TrainingError: there is.
        """
        if self.waiting:
            raise TrainingError(
                f"{len(self.waiting)} trials were not begun, since hydra/launcher={self.batch.launcher} gave up"
                f"{self._reason()}; when that is put right, `expfw sweeps resume` goes on"
            )

    def _reason(self) -> str:
        return "" if self.error is None else one_line(f": {type(self.error).__name__}: {self.error}")[:1000]


def _lives(request: Request) -> bool:
    assert request.sweep_folder is not None
    assert request.trial is not None
    try:
        return folders.entry(folders.trial_folder(request.sweep_folder, request.trial, request.id)).status == RUNNING
    except JournalError:
        return False
