"""TensorBoard event files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw


class TensorBoard(expfw.Callback):
    """Writes every logged metric to `tensorboard/` in the run's folder; look with `tensorboard --logdir runs`.

    Training, validation and test values go to writers of their own, `train`, `val` and `test`, under the same name: one
    chart. On request also histograms of the variables, first-layer weights as images, and the computational graph.
    """

    name = "tensorboard"

    @dataclass
    class Config:
        histograms: int | None = expfw.option(
            None, help="optimizer steps from one histogram of each variable to the next; by default none are written"
        )
        images: bool = expfw.option(False, help="first-layer weights as images, with each histogram and at the end")
        graph: bool = expfw.option(False, help="the computational graph of the forward pass")

        def __post_init__(self) -> None:
            if self.histograms is not None and self.histograms < 1:
                raise ValueError(f"histograms is {self.histograms}; expected 1 or more")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.writers: dict[str, Any] = {}
        self.data: Any = None
        self.model: Any = None

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run, data: expfw.Splits, model: Any) -> None:
        self.data, self.model = data, model
        if run.resumed_at is None:  # else both are there already
            if self.config.graph:
                self._write_graph(run)
            if self.config.histograms is not None:
                self._write_variables(run)
        self._ask(run)

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        self._write(run)
        every = self.config.histograms
        if every is not None and run.step % every == 0:
            self._write_variables(run)
        self._ask(run)

    @expfw.hookimpl
    def expfw_evaluated(self, run: expfw.Run) -> None:
        self._write(run)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        self._write(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run, result: expfw.Result) -> None:
        self._write(run)
        if self.config.images and self.model is not None and result.error is None:
            self._write_images(run, run.hook.expfw_variables(model=self.model))
        for writer in self.writers.values():
            writer.close()
        if self.writers:
            run.add_artifact(run.folder / "tensorboard")

    def _ask(self, run: expfw.Run) -> None:
        if self.config.histograms is not None:
            run.wake_at((run.step // self.config.histograms + 1) * self.config.histograms)

    def _write(self, run: expfw.Run) -> None:
        import tensorflow as tf

        for point in run.recent:
            for name, value in point.values.items():
                split, _, metric = name.partition("/")
                with self._writer(run, split).as_default(step=point.step):
                    tf.summary.scalar(metric or split, value)
        for writer in self.writers.values():
            writer.flush()

    def _write_variables(self, run: expfw.Run) -> None:
        import tensorflow as tf

        variables = run.hook.expfw_variables(model=self.model)
        with self._writer(run, "train").as_default(step=run.step):
            for name, value in variables.items():
                tf.summary.histogram(name, value)
        if self.config.images:
            self._write_images(run, variables)

    def _write_images(self, run: expfw.Run, variables: Any) -> None:
        import tensorflow as tf

        from expfw_callbacks.weight_images import weight_images

        pictures = weight_images(variables, self.data.spec.input_shape)
        if pictures is not None:
            largest = float(np.abs(pictures).max()) or 1.0
            with self._writer(run, "train").as_default(step=run.step):
                tf.summary.image("weights", pictures / (2 * largest) + 0.5, max_outputs=len(pictures))

    def _write_graph(self, run: expfw.Run) -> None:
        import tensorflow as tf

        sample = self.data.train.take(slice(1)).x
        specs = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), sample)
        forward = tf.function(lambda x: self.model(x), autograph=False).get_concrete_function(specs)
        with self._writer(run, "train").as_default(step=0):
            tf.summary.graph(forward.graph)

    def _writer(self, run: expfw.Run, split: str) -> Any:
        import tensorflow as tf

        if split not in self.writers:
            self.writers[split] = tf.summary.create_file_writer(str(run.folder / "tensorboard" / split))
        return self.writers[split]
