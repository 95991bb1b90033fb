"""Norms and histograms of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw
from expfw_callbacks.plots.event_files import EventFiles

_FOLDER = "gradients"


class Gradients(expfw.Callback):
    """Logs the gradient norm of each variable, and TensorBoard histograms.

    The metric is `gradient/VARIABLE`. The gradients are those of the whole batch, before they are clipped and applied.
    """

    @dataclass
    class Config:
        every: int = expfw.option(100, help="optimizer steps between two measurements", at_least=1)
        histograms: bool = expfw.option(True, help="write histograms to tensorboard/gradients in the run folder")

    model: Any = None
    files: EventFiles | None = None

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, model: Any) -> None:
        self.model, self.files = model, EventFiles(run)
        run.keep_gradients = True
        request_gradient_steps(run, self.config.every)

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        if is_gradient_step(run, self.config.every):
            assert self.files is not None, "set when the run started"
            gradients, step = read_gradients(run, self.model)
            run.log({name: float(np.linalg.norm(value)) for name, value in gradients.items()}, step=step)
            if self.config.histograms:
                self.files.write_histograms(_FOLDER, step, gradients)
                self.files.flush()
        request_gradient_steps(run, self.config.every)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        if self.files is None:
            return
        self.files.close()
        if (folder := self.files.root / _FOLDER).is_dir():
            run.add_artifact(folder)

    def state(self) -> Mapping[str, Any]:
        if self.files is not None:
            self.files.flush(min_seconds=0)  # a run that resumes from this checkpoint does not write these events again
        return {}


def is_gradient_step(run: expfw.Run, every: int) -> bool:
    """Returns whether to read gradients now; the first step shows gradients that vanish or explode from the start."""
    return run.step == 1 or run.step % every == 0


def request_gradient_steps(run: expfw.Run, every: int) -> None:
    """Requests the hook calls for the first step and the next gradient step."""
    run.call_hooks_at(1)
    run.call_hooks_at(run.step // every * every + every)


def read_gradients(run: expfw.Run, model: Any) -> tuple[dict[str, np.ndarray], int]:
    """Returns the gradients of the last step as `gradient/VARIABLE`, and the step to log them at.

    The metrics of the same batch are logged at this step: the number of updates before the batch.
    """
    gradients = run.hook.expfw_gradients(model=model)
    return {f"gradient/{name}": value for name, value in gradients.items()}, run.step - 1
