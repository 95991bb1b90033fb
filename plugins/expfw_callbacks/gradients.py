"""Gradients, seen between being computed and being applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw


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
        self.writer: Any = None

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, model: Any) -> None:
        self.model = model
        run.keep_gradients = True
        run.wake_at(1)  # the first step says whether gradients vanish or explode from the beginning

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        every = self.config.every
        if run.step == 1 or run.step % every == 0:
            self._look(run)
        run.wake_at(run.step // every * every + every)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        if self.writer is not None:
            self.writer.close()
            run.add_artifact(run.folder / "tensorboard" / "gradients")

    def _look(self, run: expfw.Run) -> None:
        gradients = run.hook.expfw_gradients(model=self.model)
        # The step with which the metrics of that batch are logged: the updates done before it.
        step = run.step - 1
        run.log({f"gradient/{name}": float(np.linalg.norm(value)) for name, value in gradients.items()}, step=step)
        if self.config.histograms:
            self._write(run, gradients, step)

    def _write(self, run: expfw.Run, gradients: Any, step: int) -> None:
        import tensorflow as tf

        if self.writer is None:
            self.writer = tf.summary.create_file_writer(str(run.folder / "tensorboard" / "gradients"))
        with self.writer.as_default(step=step):
            for name, value in gradients.items():
                tf.summary.histogram(f"gradient/{name}", value)
        self.writer.flush()
