"""Gradients, seen between being computed and being applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw
from expfw_callbacks.events.event_files import FLUSH_SECONDS, EventFiles

_FOLDER = "gradients"


class Gradients(expfw.Callback):
    """Logs the norm of each variable's gradient as `gradient/VARIABLE`, and histograms for TensorBoard.

    They are those that the step computed on its whole batch, before they were clipped and applied.
    """

    @dataclass
    class Config:
        every: int = expfw.option(100, help="optimizer steps from one look to the next")
        histograms: bool = expfw.option(True, help="write histograms to tensorboard/gradients in the run's folder")

        def __post_init__(self) -> None:
            if self.every < 1:
                raise ValueError(f"every is {self.every}; expected 1 or more")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.model: Any = None
        self.files: EventFiles | None = None

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, model: Any) -> None:
        self.model, self.files = model, EventFiles(run, self.name)
        run.keep_gradients = True
        request_gradient_steps(run, self.config.every)

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        if is_gradient_step(run, self.config.every):
            self._log_gradients(run)
        request_gradient_steps(run, self.config.every)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        if self.files is None:
            return
        self.files.close()
        if (folder := self.files.root / _FOLDER).is_dir():
            run.add_artifact(folder)

    def state(self) -> Mapping[str, Any]:
        return {} if self.files is None else self.files.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        if self.files is not None:
            self.files.restore(state)

    def _log_gradients(self, run: expfw.Run) -> None:
        assert self.files is not None, "set when the run started"
        gradients, step = read_gradients(run, self.model)
        run.log({name: float(np.linalg.norm(value)) for name, value in gradients.items()}, step=step)
        if self.config.histograms:
            self.files.write_histograms(_FOLDER, step, gradients)
            self.files.flush(FLUSH_SECONDS)


def is_gradient_step(run: expfw.Run, every: int) -> bool:
    """Whether now is the time to look: the first step says whether gradients vanish or explode from the beginning."""
    return run.step == 1 or run.step % every == 0


def request_gradient_steps(run: expfw.Run, every: int) -> None:
    """Asks to be told when that will be."""
    run.call_hooks_at(1)
    run.call_hooks_at(run.step // every * every + every)


def read_gradients(run: expfw.Run, model: Any) -> tuple[dict[str, np.ndarray], int]:
    """The gradients of the last step as `gradient/VARIABLE`, with the step that they belong to.

    It is the one with which the metrics of that batch are logged: the updates done before it.
    """
    gradients = run.hook.expfw_gradients(model=model)
    return {f"gradient/{name}": value for name, value in gradients.items()}, run.step - 1
