"""Training and evaluation steps for Keras models, low-level modules and models with custom steps."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError
from expfw_backends.engine.batches import WHOLE_BATCH, ReplicaSlice
from expfw_backends.engine.metrics import KerasMetrics, MetricSums
from expfw_backends.engine.update import Update

NOT_INLINED = {"_noinline": True}
"""Attribute of a function that is called in a loop and keeps its own graph, which has no cycle.

TensorFlow replaces operations by those of oneDNN: the gradient of max pooling only if it has replaced the pooling
before. In a graph with a cycle, the order depends on memory addresses, so some traces had other last bits.
"""
Gradients = tuple[list[Any], tf.Tensor, MetricSums]  # with loss and metrics


class ModelStep:
    """Loss and metrics that a step of the model itself computes: means over the samples of the batch.

    A custom `train_step` also updates the weights.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.step = getattr(model, name)
        self._metrics = KerasMetrics(model) if isinstance(model, keras.Model) else None

    def compute_loss(self, batch: Any, training: bool) -> tuple[tf.Tensor, Any]:
        """Returns the mean loss of these samples, and all values of the step."""
        if self._metrics is not None:
            self._metrics.reset_external_means()
        values = dict(self.step(batch))
        if "loss" not in values:
            raise ConfigError(f"{self.step.__qualname__} returned {sorted(values)}; expected a dict with `loss`")
        return values["loss"], values

    def compute_sums(self, batch: Any, output: dict[str, tf.Tensor], counts_metrics: bool) -> MetricSums:
        """Returns total and count of each value."""
        dtype = keras.config.floatx()
        count = tf.cast(_count_samples(batch), dtype)
        excluded = {"loss", *(self._metrics.last_names if self._metrics is not None else ())}
        return {n: (tf.cast(value, dtype) * count, count) for n, value in output.items() if n not in excluded}

    def get_last_values(self) -> dict[str, tf.Tensor]:
        """Returns the metrics that are not means; called outside of the replicas."""
        return self._metrics.get_last_values() if self._metrics is not None else {}


class Step:
    """A step on one batch, as the loop calls it; with an update, a training step, in `parts` that are added up."""

    def __init__(self, forward: KerasMetrics | ModelStep, update: Update | None = None, parts: int = 1) -> None:
        self.forward, self.update, self.parts = forward, update, parts

    def __call__(self, batch: Any, replica_slice: ReplicaSlice) -> tuple[tf.Tensor, MetricSums]:
        """Runs the step on one replica, for its slice of the batch: `(x, y)` or `(x, y, weight)`.

        Returns its contribution to the loss, and total and count of each other mean; the loop adds up the replicas.
        """
        if self.update is None:
            loss, output = self._compute_loss(batch, replica_slice, training=False)
            return loss, self.forward.compute_sums(batch, output, replica_slice.counts_metrics)
        compute = self._compute_gradients if self.parts == 1 else self._accumulate_gradients
        gradients, loss, means = compute(self.update, batch, replica_slice)
        self.update(gradients)
        return loss, means

    def finish(self) -> dict[str, tf.Tensor]:
        """Returns the metrics that are not means; called after all replicas, outside of them."""
        if self.update is not None:
            self.update.update_averages()
        return self.forward.get_last_values()

    def _compute_loss(self, batch: Any, replica_slice: ReplicaSlice, training: bool) -> tuple[tf.Tensor, Any]:
        loss, output = self.forward.compute_loss(batch, training)
        if replica_slice is not WHOLE_BATCH:
            loss = tf.cast(loss, keras.config.floatx()) * replica_slice.fraction
        return loss, output

    def _compute_gradients(self, update: Update, batch: Any, replica_slice: ReplicaSlice) -> Gradients:
        with tf.GradientTape() as tape:
            loss, output = self._compute_loss(batch, replica_slice, training=True)
            scaled_loss = update.optimizer.scale_loss(loss)  # so that small gradients are not lost in 16 bits
        gradients = tape.gradient(scaled_loss, update.variables)
        return gradients, loss, self.forward.compute_sums(batch, output, replica_slice.counts_metrics)

    def _accumulate_gradients(self, update: Update, batch: Any, replica_slice: ReplicaSlice) -> Gradients:
        size = _count_samples(batch)
        parts = tf.minimum(self.parts, size)

        def compute_part(number: tf.Tensor) -> Gradients:
            begin, end = number * size // parts, (number + 1) * size // parts
            part_batch = tf.nest.map_structure(lambda array: array[begin:end], batch)
            fraction = tf.cast((end - begin) / size, keras.config.floatx()) * replica_slice.fraction
            part_slice = replica_slice._replace(fraction=fraction)
            gradients, loss, means = self._compute_gradients(update, part_batch, part_slice)
            dense_gradients = [
                tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(gradients, update.variables, strict=True)
            ]
            return dense_gradients, loss, means

        compute_part = tf.function(compute_part, autograph=False, experimental_attributes=NOT_INLINED)
        # Subtracted, with the sign changed at the end: TensorFlow's graph optimizer may rewrite a chain of additions to
        # use a temporary variable, which fails in the second iteration of a nested loop (seen with large dense layers).
        _, *negative_sums = tf.while_loop(
            lambda number, *_: number < parts,
            lambda number, *sums: (number + 1, *tf.nest.map_structure(tf.subtract, sums, compute_part(number))),
            (1, *tf.nest.map_structure(tf.negative, compute_part(tf.constant(0)))),
            parallel_iterations=1,
        )
        gradients, loss, means = tf.nest.map_structure(tf.negative, negative_sums)
        return gradients, loss, means


def _count_samples(batch: Any) -> tf.Tensor:
    return tf.shape(tf.nest.flatten(batch)[0])[0]
