"""Checkpoints: the complete state of a run, on disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw

_MIN_INTERVAL_SECONDS = 1.0


class Checkpoint(expfw.Callback):
    """Saves checkpoints: regularly, at the end and on an interrupt.

    Keeps the latest checkpoints and the best one by the objective, in `checkpoints/<step>/` of the run folder. The
    state is copied in memory; a thread writes it while the training continues, one checkpoint at a time.
    `expfw runs resume` starts from the latest checkpoint.

    With `every.epochs`, a checkpoint is also saved if the objective has a new best value; if an epoch is a single step,
    at most once per second. With `every.steps`, checkpoints are saved at these steps only.
    """

    @dataclass
    class Config:
        every: expfw.Every = expfw.option(expfw.Every(), help="how often to save")
        keep: int = expfw.option(2, help="number of latest checkpoints to keep, in addition to the best", at_least=1)

    model: Any = None
    epoch = 0
    best_step: int | None = None
    pending_best_step: int | None = None  # its checkpoint is not yet on disk
    newest_step: int | None = None
    pending_write: Future[Path | None] | None = None
    has_warned = False
    last_save_at = -_MIN_INTERVAL_SECONDS

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, model: Any) -> None:
        self.model, self.epoch, self.newest_step = model, run.epoch, run.resumed_at
        for step in expfw.checkpoint_steps(run.folder):
            # damaged, or saved after the checkpoint that the run resumed from
            if run.resumed_at is None or step > run.resumed_at:
                expfw.remove_checkpoint(run.folder, step)
        self.expfw_steps_ended(run)

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        if self.config.every.steps is not None:
            run.call_hooks_at((run.step // self.config.every.steps + 1) * self.config.every.steps)

    @expfw.hookimpl
    def expfw_safe_point(self, run: expfw.Run) -> None:
        if self.pending_write is not None and self.pending_write.done():
            self._finish_write(run)
        if run.step != self.newest_step and self._is_due(run):
            self._finish_write(run)
            self.pending_best_step = run.step if run.best_step == run.step else None
            self.newest_step = run.step
            self.last_save_at = time.monotonic()
            snapshot = run.snapshot(self.model)
            self.pending_write = self.writer.submit(lambda: snapshot.write(run.folder) if snapshot.finite else None)
        self.epoch = run.epoch
        if run.is_interrupted:
            self._finish_write(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        self._finish_write(run)
        self.writer.shutdown()

    def _is_due(self, run: expfw.Run) -> bool:
        every = self.config.every
        if run.step == run.total_steps or run.is_stopping or run.is_interrupted:
            return True
        if every.steps is not None:
            return bool(run.step % every.steps == 0)
        if run.steps_per_epoch == 1 and time.monotonic() - self.last_save_at < _MIN_INTERVAL_SECONDS:
            return False
        is_regular = run.epoch != self.epoch and run.epoch % (every.epochs or 1) == 0
        return bool(is_regular or run.best_step == run.step)

    def _finish_write(self, run: expfw.Run) -> None:
        """Waits for the checkpoint in progress, then removes the checkpoints that are no longer needed."""
        if self.pending_write is None:
            return
        pending_write, self.pending_write = self.pending_write, None
        best_step, self.pending_best_step = self.pending_best_step, None
        try:
            path = pending_write.result()
        except OSError as error:
            if not self.has_warned:
                run.warn(f"cannot write a checkpoint: {error.strerror}; the run continues and tries again later")
            self.has_warned = True
            return
        self.has_warned = False
        if path is None:
            run.warn(f"no checkpoint of step {self.newest_step}: some weights are not finite")
            return
        self.best_step = self.best_step if best_step is None else best_step
        steps = expfw.checkpoint_steps(run.folder)
        for step in set(steps[: -self.config.keep]) - {self.best_step}:
            expfw.remove_checkpoint(run.folder, step)
        run.hook.expfw_checkpoint_saved(run=run, path=path)

    def state(self) -> Mapping[str, Any]:
        return {"best": self.best_step if self.pending_best_step is None else self.pending_best_step}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best_step = state["best"]
