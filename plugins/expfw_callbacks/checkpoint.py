"""Checkpoints: the complete state of a training, on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import expfw


class Checkpoint(expfw.Callback):
    """Saves weights, optimizer and random states every so often: the last ones, and the best by the objective.

    They lie in `checkpoints/<step>/` of the run's folder; `position.json` there says how good each one is.
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
        self.saved: list[int] = []
        self.best: int | None = None

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, model: Any) -> None:
        self.model = model
        self._ask(run)

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        every = self.config.every.steps
        if every is not None and run.step % every == 0:
            self._save(run)
        self._ask(run)

    @expfw.hookimpl
    def expfw_evaluated(self, run: expfw.Run) -> None:
        if run.best_step == run.step:
            self._save(run)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        every = self.config.every
        if run.best_step == run.step or (every.steps is None and run.epoch % (every.epochs or 1) == 0):
            self._save(run)

    def _ask(self, run: expfw.Run) -> None:
        if self.config.every.steps is not None:
            run.wake_at((run.step // self.config.every.steps + 1) * self.config.every.steps)

    def _save(self, run: expfw.Run) -> None:
        root = run.folder / "checkpoints"
        if run.best_step == run.step:
            self.best = run.step
        if run.step in self.saved:
            return
        folder, unfinished = root / f"{run.step:09d}", root / f".{run.step:09d}"
        unfinished.mkdir(parents=True, exist_ok=True)
        run.hook.expfw_save(model=self.model, path=unfinished / "arrays.safetensors", training=True)
        position = {"step": run.step, "epoch": run.epoch, "metrics": run.metrics, "objective": run.best_value}
        position |= {"steps_per_epoch": run.steps_per_epoch, "seed": run.config.seed}
        (unfinished / "position.json").write_text(json.dumps(position))
        unfinished.rename(folder)
        self.saved.append(run.step)
        self._clear(root)
        run.hook.expfw_checkpoint_saved(run=run, path=folder)

    def _clear(self, root: Path) -> None:
        kept = {*self.saved[-self.config.keep :], self.best}
        for step in [s for s in self.saved if s not in kept]:
            shutil.rmtree(root / f"{step:09d}")
            self.saved.remove(step)

    def state(self) -> Mapping[str, Any]:
        return {"saved": self.saved, "best": self.best}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.saved, self.best = list(state["saved"]), state["best"]
