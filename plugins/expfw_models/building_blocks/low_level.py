"""What a low-level model is: a tf.Module whose outputs and loss are written out."""

from __future__ import annotations

from abc import abstractmethod

import keras
import tensorflow as tf


class LowLevelModel(tf.Module):
    """A model without Keras layers: subclasses give `__call__` and `compute_metrics`, the engine does the rest.

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
    def compute_metrics(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scalars for one batch, means over its samples, `loss` among them."""

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The values of a batch; the engine takes the gradient of `loss` in training."""
        x, y = batch
        return self.compute_metrics(y, self(x))

    def predict_step(self, x: tf.Tensor) -> tf.Tensor:
        """Outputs for samples."""
        return self(x)


def compute_class_metrics(y: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Cross-entropy as `loss`, and `accuracy`: means over the samples.

    Args:
        y: classes, int32 `(n,)`.
        logits: `(n, classes)`.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    is_correct = tf.equal(tf.argmax(logits, axis=-1, output_type=y.dtype), y)
    return {"loss": tf.reduce_mean(losses), "accuracy": tf.reduce_mean(tf.cast(is_correct, tf.float32))}


def compute_l2_penalty(weights: list[tf.Variable], l2: float) -> tf.Tensor:
    """`l2` times the sum of all squared weights."""
    return l2 * tf.add_n([tf.reduce_sum(tf.square(weight)) for weight in weights]) if l2 else tf.zeros(())
