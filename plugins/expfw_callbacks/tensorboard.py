"""TensorBoard event files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import expfw


class TensorBoard(expfw.Callback):
    """Writes every logged metric to `tensorboard/` in the run's folder; look with `tensorboard --logdir runs`.

    Training and validation values go to writers of their own, `train` and `val`, under the same name: one chart.
    """

    name = "tensorboard"

    @dataclass
    class Config:
        pass

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.writers: dict[str, Any] = {}

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        self._write(run)

    @expfw.hookimpl
    def expfw_evaluated(self, run: expfw.Run) -> None:
        self._write(run)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run: expfw.Run) -> None:
        self._write(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        self._write(run)
        for writer in self.writers.values():
            writer.close()
        if self.writers:
            run.add_artifact(run.folder / "tensorboard")

    def _write(self, run: expfw.Run) -> None:
        import tensorflow as tf

        for point in run.recent:
            for name, value in point.values.items():
                split, _, metric = name.partition("/")
                if split not in self.writers:
                    self.writers[split] = tf.summary.create_file_writer(str(run.folder / "tensorboard" / split))
                with self.writers[split].as_default(step=point.step):
                    tf.summary.scalar(metric or split, value)
        for writer in self.writers.values():
            writer.flush()
