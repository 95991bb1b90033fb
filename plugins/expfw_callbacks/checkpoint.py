"""Checkpoints: the complete state of a training, on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw

_PAUSE_SECONDS = 1.0


class Checkpoint(expfw.Callback):
    """Saves the complete state every so often, at the end, and when the run is asked to leave.

    Kept are the last ones, and the best by the objective, in `checkpoints/<step>/` of the run's folder. They are copied
    in memory and written by a thread, while the training goes on; there is one at a time. `expfw runs resume` goes on
    from the newest. Where an epoch is a single step, there is at most one a second, unless `every.steps` is given.
    """

    @dataclass
    class Config:
        every: expfw.Every = expfw.option(expfw.Every(), help="how often to save")
        keep: int = expfw.option(2, help="how many of the last ones to keep, beside the best")

        def __post_init__(self) -> None:
            if self.keep < 1:
                raise ValueError(f"keep is {self.keep}; expected 1 or more")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.model: Any = None
        self.epoch = 0
        self.best: int | None = None
        self.next_best: int | None = None  # is being written
        self.newest: int | None = None
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self.writing: Future[Path | None] | None = None
        self.told = False
        self.began = -_PAUSE_SECONDS

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, model: Any) -> None:
        self.model, self.epoch, self.newest = model, run.epoch, run.resumed_at
        for step in expfw.checkpoint_steps(run.folder):
            if run.resumed_at is None or step > run.resumed_at:  # damaged ones, or of another life
                expfw.remove_checkpoint(run.folder, step)
        self._ask(run)

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        self._ask(run)

    @expfw.hookimpl
    def expfw_settled(self, run: expfw.Run) -> None:
        if self.writing is not None and self.writing.done():
            self._written(run)
        if run.step != self.newest and self._due(run):
            self._written(run)
            self.next_best = run.step if run.best_step == run.step else None
            self.newest = run.step
            self._save(run)
        self.epoch = run.epoch
        if run.leaving:
            self._written(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        self._written(run)
        self.writer.shutdown()

    def _due(self, run: expfw.Run) -> bool:
        every = self.config.every
        if run.step == run.total_steps or run.stopping or run.leaving:
            return True
        if every.steps is not None:
            regular = run.step % every.steps == 0
        elif run.steps_per_epoch == 1 and time.monotonic() - self.began < _PAUSE_SECONDS:
            return False
        else:
            regular = run.epoch != self.epoch and run.epoch % (every.epochs or 1) == 0
        return bool(regular or run.best_step == run.step)

    def _ask(self, run: expfw.Run) -> None:
        if self.config.every.steps is not None:
            run.wake_at((run.step // self.config.every.steps + 1) * self.config.every.steps)

    def _save(self, run: expfw.Run) -> None:
        self.began = time.monotonic()
        snapshot = run.snapshot(self.model)
        self.writing = self.writer.submit(lambda: snapshot.write(run.folder) if snapshot.finite else None)

    def _written(self, run: expfw.Run) -> None:
        """Waits for the one that is being written; then removes those that are no longer wanted."""
        if self.writing is None:
            return
        writing, self.writing = self.writing, None
        best, self.next_best = self.next_best, None
        try:
            path = writing.result()
        except OSError as error:
            if not self.told:
                run.warn(f"a checkpoint cannot be written ({error.strerror}); the run goes on, and tries again later")
            self.told = True
            return
        self.told = False
        if path is None:
            run.warn(f"no checkpoint of step {self.newest}: there are weights that are no numbers")
            return
        self.best = self.best if best is None else best
        steps = expfw.checkpoint_steps(run.folder)
        for step in set(steps[: -self.config.keep]) - {self.best}:
            expfw.remove_checkpoint(run.folder, step)
        run.hook.expfw_checkpoint_saved(run=run, path=path)

    def state(self) -> Mapping[str, Any]:
        return {"best": self.best if self.next_best is None else self.next_best}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best = state["best"]
