"""Training and evaluation steps for Keras models, low-level modules and models with custom steps."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import keras
import tensorflow as tf

from expfw import ConfigError
from expfw_backends.engine.metrics import KerasMetrics
from expfw_backends.engine.replica_slices import ReplicaSlice
from expfw_backends.engine.update import Update

MetricSums = dict[str, tuple[tf.Tensor, tf.Tensor]]


class Step(Protocol):
    """A step on one batch, as the loop calls it."""

    def __call__(self, batch: Any, replica_slice: ReplicaSlice | None) -> tuple[tf.Tensor, MetricSums]:
        """Runs the step on one replica.

        Args:
            batch: slice of the replica, `(x, y)` or `(x, y, weight)`.
            replica_slice: position of the slice in the batch; None for the whole batch.

        Returns:
            Contribution of the slice to the loss of the batch, and total and count of each other mean. All of them are
            added up over the replicas.
        """

    def finish(self) -> dict[str, tf.Tensor]:
        """Returns the metrics that are not means; called after all replicas, outside of them."""


class KerasForward:
    """Loss and metrics of a compiled Keras model."""

    def __init__(self, model: keras.Model, replicas: int) -> None:
        self.model, self.replicas = model, replicas
        self.metrics = KerasMetrics(model)
        self._takes_training = "training" in inspect.signature(model.call).parameters
        self._loss_takes_training = "training" in inspect.signature(model.compute_loss).parameters

    def compute_loss(self, batch: Any, training: bool) -> tuple[tf.Tensor, Any]:
        """Returns the mean loss of these samples, and the output of the model."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        self.metrics.reset_external_means()
        output = self.model(x, **({"training": training} if self._takes_training else {}))
        loss_options = {"training": training} if self._loss_takes_training else {}
        loss = tf.cast(self.model.compute_loss(x, y, output, weight, **loss_options), tf.float32)
        return loss * self.replicas, output  # Keras divides by the number of replicas

    def compute_sums(self, batch: Any, output: Any, replica_slice: ReplicaSlice | None) -> MetricSums:
        """Returns total and count of each mean metric."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        return self.metrics.compute_batch_sums(
            x, y, output, weight, replica_slice is None or replica_slice.counts_metrics
        )

    def finish(self) -> dict[str, tf.Tensor]:
        """Returns the metrics that are not means."""
        return self.metrics.get_last_values()


class ModuleForward:
    """Loss and metrics of a `tf.Module`, which computes them itself."""

    def __init__(self, module: tf.Module) -> None:
        self.module = module

    def compute_loss(self, batch: Any, training: bool) -> tuple[tf.Tensor, Any]:
        """Returns the mean loss of these samples, and all values of the batch."""
        values = self.module.test_step(batch)
        return values["loss"], values

    def compute_sums(self, batch: Any, output: dict[str, tf.Tensor], replica_slice: ReplicaSlice | None) -> MetricSums:
        """Returns the values of the module as total and count over the samples of the batch."""
        return _sum_over_samples(output, batch)

    def finish(self) -> dict[str, tf.Tensor]:
        """Returns an empty dict: all metrics are means."""
        return {}


class EvaluationStep:
    """A step without an update of the weights."""

    def __init__(self, forward: KerasForward | ModuleForward) -> None:
        self.forward = forward

    def __call__(self, batch: Any, replica_slice: ReplicaSlice | None) -> tuple[tf.Tensor, MetricSums]:
        loss, output = self.forward.compute_loss(batch, training=False)
        return _scale_to_batch(loss, replica_slice), self.forward.compute_sums(batch, output, replica_slice)

    def finish(self) -> dict[str, tf.Tensor]:
        return self.forward.finish()


class TrainingStep:
    """A step with an update: computes the gradient of the loss over the whole batch and applies the optimizer.

    Args:
        forward: computes loss and metrics.
        update: updates the weights.
        parts: number of parts of the batch; they are computed one by one and their gradients are added up.
    """

    def __init__(self, forward: KerasForward | ModuleForward, update: Update, parts: int) -> None:
        self.forward, self.update, self.parts = forward, update, parts

    def __call__(self, batch: Any, replica_slice: ReplicaSlice | None) -> tuple[tf.Tensor, MetricSums]:
        if self.parts == 1:
            gradients, loss, means = self._compute_gradients(batch, replica_slice)
        else:
            gradients, loss, means = self._accumulate_gradients(batch, replica_slice)
        self.update(gradients)
        return loss, means

    def finish(self) -> dict[str, tf.Tensor]:
        self.update.update_averages()
        return self.forward.finish()

    def _compute_gradients(
        self, batch: Any, replica_slice: ReplicaSlice | None
    ) -> tuple[list[Any], tf.Tensor, MetricSums]:
        with tf.GradientTape() as tape:
            loss, output = self.forward.compute_loss(batch, training=True)
            loss = _scale_to_batch(loss, replica_slice)
            scaled_loss = self.update.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.update.variables)
        return gradients, loss, self.forward.compute_sums(batch, output, replica_slice)

    def _accumulate_gradients(
        self, batch: Any, replica_slice: ReplicaSlice | None
    ) -> tuple[list[Any], tf.Tensor, MetricSums]:
        size = _count_samples(batch)
        parts = tf.minimum(self.parts, size)

        def subtract_part(number: tf.Tensor, *sums: Any) -> tuple[Any, ...]:
            begin, end = number * size // parts, (number + 1) * size // parts
            part_batch = tf.nest.map_structure(lambda array: array[begin:end], batch)
            slice_fraction = tf.cast((end - begin) / size, tf.float32)
            fraction = slice_fraction if replica_slice is None else slice_fraction * replica_slice.fraction
            part_slice = (
                ReplicaSlice(fraction, 1, True) if replica_slice is None else replica_slice._replace(fraction=fraction)
            )
            gradients, loss, means = self._compute_gradients(part_batch, part_slice)
            part_sums = [self._to_dense(gradients), loss, {name: list(pair) for name, pair in means.items()}]
            return number + 1, *tf.nest.map_structure(tf.subtract, list(sums), part_sums)

        # Subtracted, with the sign changed at the end: TensorFlow's graph optimizer may rewrite a chain of additions to
        # use a temporary variable, which fails in the second iteration of a nested loop (seen with large dense layers).
        _, *negative_sums = tf.while_loop(
            lambda number, *_: number < parts,
            subtract_part,
            (0, [tf.zeros(v.shape, v.dtype) for v in self.update.variables], 0.0, self._make_zero_sums(batch)),
            parallel_iterations=1,
        )
        gradients, loss, means = tf.nest.map_structure(tf.negative, negative_sums)
        return gradients, loss, {name: (total, count) for name, (total, count) in means.items()}

    def _to_dense(self, gradients: list[Any]) -> list[tf.Tensor]:
        pairs = zip(gradients, self.update.variables, strict=True)
        return [tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g) for g, v in pairs]

    def _make_zero_sums(self, batch: Any) -> dict[str, list[float]]:
        if isinstance(self.forward, KerasForward):
            names = self.forward.metrics.mean_names
        else:  # traced only for the names; these operations never run
            spec = tf.nest.map_structure(lambda a: tf.TensorSpec(a.shape, a.dtype), batch)
            values = tf.function(lambda b: self.forward.compute_loss(b, training=False)[1]).get_concrete_function(spec)
            names = [name for name in values.structured_outputs if name != "loss"]
        return {name: [0.0, 0.0] for name in names}


class CustomStep:
    """A `train_step` or `test_step` that the model defines itself; on several replicas, only for slices of equal size.

    The returned values are treated as means over the samples of the batch.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.step = getattr(model, name)
        self.metrics = KerasMetrics(model) if isinstance(model, keras.Model) else None

    def __call__(self, batch: Any, replica_slice: ReplicaSlice | None) -> tuple[tf.Tensor, MetricSums]:
        if self.metrics is not None:
            self.metrics.reset_all_means()
        values = dict(self.step(batch))
        if "loss" not in values:
            raise ConfigError(f"{self.step.__qualname__} returned {sorted(values)}; expected a dict with `loss`")
        if self.metrics is not None:  # `finish` reads the metrics that are not means
            values = {name: value for name, value in values.items() if name not in self.metrics.last_names}
        return _scale_to_batch(values["loss"], replica_slice), _sum_over_samples(values, batch)

    def finish(self) -> dict[str, tf.Tensor]:
        return self.metrics.get_last_values() if self.metrics is not None else {}


def has_custom_step(model: Any, name: str) -> bool:
    """Returns whether the model defines this step itself; the engine can then only call it as a whole."""
    if isinstance(model, keras.Model):
        return getattr(type(model), name) is not getattr(keras.Model, name)
    return name == "train_step" and hasattr(model, name)


def _scale_to_batch(loss: tf.Tensor, replica_slice: ReplicaSlice | None) -> tf.Tensor:
    return loss if replica_slice is None else tf.cast(loss, tf.float32) * replica_slice.fraction


def _sum_over_samples(values: dict[str, tf.Tensor], batch: Any) -> MetricSums:
    count = tf.cast(_count_samples(batch), tf.float32)
    return {name: (tf.cast(value, tf.float32) * count, count) for name, value in values.items() if name != "loss"}


def _count_samples(batch: Any) -> tf.Tensor:
    return tf.shape(tf.nest.flatten(batch)[0])[0]
