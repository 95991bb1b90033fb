"""What a low-level model is: a tf.Module that knows one training step, written out."""

from __future__ import annotations

from abc import abstractmethod

import keras
import tensorflow as tf


class LowLevelModel(tf.Module):
    """A model without Keras layers: subclasses give `__call__` and `metrics_of`, the steps follow.

    Args:
        optimizer: applies the gradients.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        super().__init__()
        self.optimizer = optimizer

    @abstractmethod
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Samples `(n, ...)` to outputs `(n, ...)`."""

    @abstractmethod
    def metrics_of(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalars for one batch, means over its samples, `loss` among them."""

    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Gradient of the loss, then the optimizer's update."""
        x, y = batch
        with tf.GradientTape() as tape:
            values = self.metrics_of(y, self(x))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(values["loss"], variables), variables, strict=True))
        return values

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same values without an update."""
        x, y = batch
        return self.metrics_of(y, self(x))

    def predict_step(self, x: tf.Tensor) -> tf.Tensor:
        """Outputs for samples."""
        return self(x)
