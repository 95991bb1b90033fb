"""The compiled loop: many steps in one call, over data that stay on the device, under any strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from expfw import Split


class Loop:
    """Runs a step over batches of one split, as many of them per call as asked for.

    XLA is left out on purpose: around this loop on a CPU it is some hundred times slower.

    Args:
        strategy: a `tf.distribute.Strategy`; its replicas run the step.
        step: takes a batch `(x, y)`, returns a dict of scalars for that batch.
        split: kept on the device for as long as the loop lives.
        batch_size: samples per step; the last batch of an epoch may be smaller.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, step: Callable[[Any], dict[str, Any]], split: Split, batch_size: int
    ) -> None:
        self.strategy = strategy
        self.step = step
        self.data = (tf.constant(split.x), tf.constant(split.y))
        self.samples = len(split)
        self.batch_size = batch_size
        self.steps_per_epoch = -(-self.samples // batch_size)
        self.names: list[str] = []
        scalar = tf.TensorSpec((), tf.int32)
        self._steps = tf.function(self._many_steps, input_signature=[tf.TensorSpec((None,), tf.int32), scalar, scalar])

    def run(self, order: np.ndarray, first: int, count: int) -> dict[str, np.ndarray]:
        """Steps `first` to `first + count - 1` of an epoch.

        Args:
            order: the epoch's permutation of all samples, int32 `(samples,)`.

        Returns:
            By name, what each step returned: float32 `(count,)`.
        """
        values = self._steps(order, first, count).numpy()
        return {name: values[:, column] for column, name in enumerate(self.names)}

    def sizes(self, first: int, count: int) -> np.ndarray:
        """Samples in each of these steps' batches, `(count,)`: their weights in a mean over samples."""
        starts = (first + np.arange(count)) * self.batch_size
        return np.minimum(self.batch_size, self.samples - starts)

    def _many_steps(self, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        def body(done: tf.Tensor, values: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            start = (first + done) * self.batch_size
            chosen = order[start : start + self.batch_size]
            batch = tuple(tf.gather(part, chosen) for part in self.data)
            logs = self.strategy.run(self.step, args=(batch,))
            self.names = sorted(logs)  # known once this is traced, and the same ever after
            row = [self.strategy.reduce("MEAN", tf.cast(logs[name], tf.float32), axis=None) for name in self.names]
            return done + 1, values.write(done, tf.stack(row))

        empty = tf.TensorArray(tf.float32, size=count, infer_shape=False)
        _, values = tf.while_loop(lambda done, _: done < count, body, (0, empty), parallel_iterations=1)
        return values.stack()
