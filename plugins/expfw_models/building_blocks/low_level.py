"""Low-level models: a tf.Module with explicit outputs and loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf


class LowLevelModel(tf.Module):
    """A model without Keras layers, which the engine trains.

    Subclasses define `__call__`, from samples to outputs, and `compute_metrics(y, output)`, which returns scalar means
    over the samples of a batch, including `loss`.

    Args:
        optimizer: optimizer that applies the gradients.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        super().__init__()
        self.optimizer = optimizer

    def test_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the metrics of a batch; in training, the engine computes the gradient of `loss`."""
        x, y = batch
        metrics: dict[str, tf.Tensor] = self.compute_metrics(y, self(x))
        return metrics

    def predict_step(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the predictions for samples."""
        return self(x)


class DenseClassifier(LowLevelModel):
    """Dense layers, and a softmax cross-entropy from logits.

    Args:
        optimizer: optimizer that applies the gradients.
        weights: initial weights of each layer, float32 `(inputs, outputs)`; the initial biases are 0.
        activation: activation of the hidden layers.
        l2: factor of the sum of the squared weights in the loss.
        loss_divisor: number that divides the cross-entropy.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        weights: Sequence[tf.Tensor],
        activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
        l2: float = 0.0,
        loss_divisor: int = 1,
    ) -> None:
        super().__init__(optimizer)
        self.weights, self.biases = [], []
        for layer, initial_weights in enumerate(weights):
            suffix = f"_{layer}" if len(weights) > 1 else ""
            self.weights.append(tf.Variable(initial_weights, name=f"weight{suffix}"))
            self.biases.append(tf.Variable(tf.zeros(initial_weights.shape[1:]), name=f"bias{suffix}"))
        self.activation, self.l2, self.loss_divisor = activation, l2, loss_divisor

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Maps samples `(n, ...)` to logits `(n, classes)`."""
        h = tf.reshape(x, (-1, self.weights[0].shape[0]))
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = self.activation(h @ weight + bias)
        return h @ self.weights[-1] + self.biases[-1]

    def compute_metrics(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns loss and accuracy for classes `(n,)` and logits."""
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=output))
        if self.loss_divisor != 1:
            loss /= self.loss_divisor
        if self.l2:
            loss += self.l2 * tf.add_n([tf.reduce_sum(tf.square(weight)) for weight in self.weights])
        is_correct = tf.equal(tf.argmax(output, axis=-1, output_type=y.dtype), y)
        return {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(is_correct, tf.float32))}

    def predict_step(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the probability of each class."""
        return tf.nn.softmax(self(x))
