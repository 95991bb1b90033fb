"""Base class of low-level models: a tf.Module with explicit outputs and loss."""

from __future__ import annotations

from abc import abstractmethod

import keras
import tensorflow as tf


class LowLevelModel(tf.Module):
    """A model without Keras layers. Subclasses define `__call__` and `compute_metrics`; the engine trains the model.

    Args:
        optimizer: optimizer that applies the gradients.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        super().__init__()
        self.optimizer = optimizer

    @abstractmethod
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Maps samples `(n, ...)` to outputs `(n, ...)`."""

    @abstractmethod
    def compute_metrics(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns scalar means over the samples of a batch, including `loss`."""

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the metrics of a batch; in training, the engine computes the gradient of `loss`."""
        x, y = batch
        return self.compute_metrics(y, self(x))

    def predict_step(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the predictions for samples."""
        return self(x)


def compute_class_metrics(y: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the cross-entropy as `loss`, and `accuracy`; both are means over the samples.

    Args:
        y: classes, int32 `(n,)`.
        logits: outputs before the softmax, `(n, classes)`.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    is_correct = tf.equal(tf.argmax(logits, axis=-1, output_type=y.dtype), y)
    return {"loss": tf.reduce_mean(losses), "accuracy": tf.reduce_mean(tf.cast(is_correct, tf.float32))}


def compute_l2_penalty(weights: list[tf.Variable], l2: float) -> tf.Tensor:
    """Returns `l2` times the sum of all squared weights."""
    return l2 * tf.add_n([tf.reduce_sum(tf.square(weight)) for weight in weights]) if l2 else tf.zeros(())
