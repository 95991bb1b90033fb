"""Loss and metrics of a Keras model for single batches."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError

MetricSums = dict[str, tuple[tf.Tensor, tf.Tensor]]
_FIRST_MARKER = 1_000_001.0  # no metric has this value before its first batch


class KerasMetrics:
    """Computes loss and metrics of a model for single batches.

    A mean metric keeps a total and a count. They are reset before each batch, so both belong to that batch and can be
    added up over any samples, in float64, outside of the compiled loop. Other metrics (`last_names`), for example AUC,
    cannot be combined from batches: they accumulate over the epoch, and only their value after the last batch is used.
    `sample` contains arguments of `compute_metrics`; it is None if a custom step of the model updates all metrics.
    """

    def __init__(self, model: keras.Model, sample: tuple[Any, Any, Any, Any] | None = None) -> None:
        self.model = model
        self._takes_training = "training" in inspect.signature(model.call).parameters
        self._loss_takes_training = "training" in inspect.signature(model.compute_loss).parameters
        parts = [part for metric in model.metrics for part in getattr(metric, "metrics", [metric])]
        all_means: list[keras.metrics.Mean] = []
        self._accumulating_variables: list[Any] = []
        for part in parts:
            # Not a subclass of `Mean` with another result, for example the root of a mean.
            if isinstance(part, keras.metrics.Mean) and type(part).result is keras.metrics.Mean.result:
                if type(part) is keras.metrics.SparseCategoricalAccuracy:
                    part._fn = compute_accuracy  # Keras has no public attribute; only the engine uses this metric
                all_means.append(part)
            else:
                self._accumulating_variables += part.variables
        # The name that the model reports for a mean is found by a unique value of the mean.
        by_marker = {_FIRST_MARKER + number: metric for number, metric in enumerate(all_means)}
        with _make_scope((metric, marker, 1.0) for marker, metric in by_marker.items()):
            results = model.get_metrics_result()
        for name, value in results.items():
            if getattr(value, "shape", ()) != ():
                raise ConfigError(
                    f"metric {name!r} returns shape {value.shape}; expected one number; for example, use "
                    "F1Score(average='macro')"
                )
        named_means = {name: by_marker[float(value)] for name, value in results.items() if float(value) in by_marker}
        self._named_means = list(named_means.values())
        self.means = {name: metric for name, metric in named_means.items() if name != "loss"}
        self.last_names = [name for name in results if name not in named_means and name != "loss"]
        # Means that `compute_metrics` does not update, but a layer, the loss or a custom step.
        self._external_means = all_means
        if sample is not None:
            scope = self._make_zero_scope()
            zeros = {name: scope.get_current_value(mean.total) for name, mean in self.means.items()}
            with scope:
                model.compute_metrics(*sample)
            totals = {name: scope.get_current_value(mean.total) for name, mean in self.means.items()}
            self._external_means = [mean for name, mean in self.means.items() if totals[name] is zeros[name]]

    def compute_loss(self, batch: Any, training: bool) -> tuple[tf.Tensor, Any]:
        """Returns the mean loss of these samples, and the output of the model."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        self.reset_external_means()
        output = self.model(x, **({"training": training} if self._takes_training else {}))
        loss_options = {"training": training} if self._loss_takes_training else {}
        loss = tf.cast(self.model.compute_loss(x, y, output, weight, **loss_options), keras.config.floatx())
        return loss * tf.distribute.get_strategy().num_replicas_in_sync, output  # Keras divides by this number

    def reset_external_means(self) -> None:
        """Resets the means that `compute_metrics` does not update; called before the forward pass of a batch."""
        for metric in self._external_means:
            metric.reset_state()

    def compute_sums(self, batch: Any, output: Any, counts_metrics: bool = True) -> MetricSums:
        """Returns total and count of each mean for this batch; the accumulating metrics may include the batch or not.

        The variables of the means are neither read nor written, which saves much time.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        scope = self._make_zero_scope()
        with scope:
            self.model.compute_metrics(x, y, output, weight)
        for variable in self._accumulating_variables if counts_metrics else ():
            if (value := scope.get_current_value(variable)) is not None:
                variable.assign(value)
        dtype, sums = keras.config.floatx(), {}
        samples = tf.cast(tf.shape(tf.nest.flatten(x)[0])[0], dtype)
        for name, metric in self.means.items():
            total, count = scope.get_current_value(metric.total), scope.get_current_value(metric.count)
            if metric in self._external_means:
                # Keras counts each loss of a multi-output model once per batch, not once per sample.
                batches = tf.convert_to_tensor(metric.count.value)
                count = tf.where(batches > 0, samples, tf.zeros_like(samples))
                mean = tf.math.divide_no_nan(tf.convert_to_tensor(metric.total.value), batches)
                total = tf.cast(mean, dtype) * count
            sums[name] = tf.cast(total, dtype), tf.cast(count, dtype)
        return sums

    def get_last_values(self) -> dict[str, tf.Tensor]:
        """Returns the values of the metrics that are not means."""
        results = self.model.get_metrics_result() if self.last_names else {}
        return {name: results[name] for name in self.last_names}

    def _make_zero_scope(self) -> keras.StatelessScope:
        # With the loss, which is not used: without a value here, its variables would be read.
        return _make_scope((metric, 0.0, 0.0) for metric in self._named_means)


def compute_accuracy(y_true: Any, y_pred: Any) -> tf.Tensor:
    """Returns Keras' accuracy of each sample, without Keras' search for negative zeros; a softmax has none."""
    is_softmax = getattr(getattr(y_pred, "op", None), "type", None) == "Softmax"
    if (
        not is_softmax
        or y_pred.dtype not in (tf.float32, tf.float64)  # other types do not contain all class numbers
        or y_true.dtype not in (tf.uint8, tf.int8, tf.uint16, tf.int16, tf.int32, tf.int64)
        or y_true.shape.rank is None
        or y_true.shape.rank + 1 != y_pred.shape.rank
    ):
        return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)
    labels = y_true if y_true.dtype in (tf.int32, tf.int64) else tf.cast(y_true, tf.int32)
    is_correct = tf.equal(labels, tf.argmax(y_pred, axis=-1, output_type=labels.dtype))
    return tf.cast(is_correct, keras.config.floatx())


def _make_scope(values: Iterable[tuple[keras.metrics.Mean, float, float]]) -> keras.StatelessScope:
    """Returns a scope in which these means have this total and count."""
    pairs = [pair for metric, total, count in values for pair in ((metric.total, total), (metric.count, count))]
    return keras.StatelessScope([(variable, tf.constant(value, variable.dtype)) for variable, value in pairs])
