"""Metrics of a Keras model for single batches."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError
from expfw_backends.engine.fused_kernels import fused_accuracy

_FIRST_MARKER = 1_000_001.0  # no metric has this value before its first batch


class KerasMetrics:
    """Computes the metrics of a model for single batches.

    A mean metric keeps a total and a count. They are reset before each batch, so both belong to that batch and can be
    added up over any samples, in float64, outside of the compiled loop. Other metrics, for example AUC, cannot be
    combined from batches: they accumulate over the epoch, and only their value after the last batch is used.

    Attributes:
        mean_names: names of the mean metrics, as the model reports them, without the loss.
        last_names: names of the other metrics.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        parts = [part for metric in model.metrics for part in getattr(metric, "metrics", [metric])]
        means = [part for part in parts if _is_mean(part)]
        named_means, reported_names = self._match_reported_names(means)
        self.means = {name: metric for name, metric in named_means.items() if name != "loss"}
        self._named_means = named_means
        self.mean_names = list(self.means)
        self.last_names = [name for name in reported_names if name not in named_means and name != "loss"]
        self._all_means = means
        self._accumulating_variables = [v for part in parts if not _is_mean(part) for v in part.variables]
        self._external_means: list[
            keras.metrics.Mean
        ] = []  # updated by a layer or with the loss, not in compute_metrics

    def find_external_means(self, x: Any, y: Any, output: Any, weight: Any) -> None:
        """Detects, with sample data, the mean metrics that `compute_metrics` does not update."""
        zeros = self._make_zeros()
        scope = self._make_scope(zeros)
        with scope:
            self.model.compute_metrics(x, y, output, weight)
        self._external_means = [
            metric for name, metric in self.means.items() if scope.get_current_value(metric.total) is zeros[name][0]
        ]

    def reset_external_means(self) -> None:
        """Resets the external means; called before the forward pass of a batch."""
        for metric in self._external_means:
            metric.reset_state()

    def reset_all_means(self) -> None:
        """Resets all means; called before a custom step, which may update any metric."""
        for metric in self._all_means:
            metric.reset_state()

    def compute_batch_sums(
        self, x: Any, y: Any, output: Any, weight: Any, counts_metrics: bool = True
    ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Returns total and count of each mean for this batch.

        The variables of the means are neither read nor written, which saves much time.

        Args:
            x: samples.
            y: targets.
            output: output of the model.
            weight: sample weights, or None.
            counts_metrics: whether the accumulating metrics include this batch.
        """
        scope = self._make_scope(self._make_zeros())
        with scope, fused_accuracy(self._all_means):
            self.model.compute_metrics(x, y, output, weight)
        for variable in self._accumulating_variables if counts_metrics else ():
            if (value := scope.get_current_value(variable)) is not None:
                variable.assign(value)
        samples = tf.cast(tf.shape(tf.nest.flatten(x)[0])[0], tf.float32)
        return {name: self._compute_batch_sum(metric, scope, samples) for name, metric in self.means.items()}

    def get_last_values(self) -> dict[str, tf.Tensor]:
        """Returns the values of the metrics that are not means."""
        if not self.last_names:
            return {}
        results = self.model.get_metrics_result()
        return {name: results[name] for name in self.last_names}

    def _compute_batch_sum(
        self, metric: keras.metrics.Mean, scope: keras.StatelessScope, samples: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if (
            metric in self._external_means
        ):  # Keras counts each loss of a multi-output model once per batch, not once per sample
            count = tf.convert_to_tensor(metric.count.value)
            samples = tf.where(count > 0, samples, 0.0)
            mean = tf.math.divide_no_nan(tf.convert_to_tensor(metric.total.value), count)
            return tf.cast(mean, tf.float32) * samples, samples
        total, count = scope.get_current_value(metric.total), scope.get_current_value(metric.count)
        return tf.cast(total, tf.float32), tf.cast(count, tf.float32)

    def _make_zeros(self) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Includes the loss, which is not used: without a value here, its variables would be read."""
        return {n: (tf.zeros((), m.total.dtype), tf.zeros((), m.count.dtype)) for n, m in self._named_means.items()}

    def _make_scope(self, initial_values: dict[str, tuple[tf.Tensor, tf.Tensor]]) -> keras.StatelessScope:
        mapping = [
            (variable, value)
            for name, metric in self._named_means.items()
            for variable, value in zip((metric.total, metric.count), initial_values[name], strict=True)
        ]
        return keras.StatelessScope(state_mapping=mapping)

    def _match_reported_names(self, means: list[keras.metrics.Mean]) -> tuple[dict[str, keras.metrics.Mean], list[str]]:
        """Finds the reported name of each mean: gives each mean a unique value, then reads the results of the model."""
        means_by_marker = {_FIRST_MARKER + number: metric for number, metric in enumerate(means)}
        mapping = [
            (variable, tf.constant(value, variable.dtype))
            for number, metric in means_by_marker.items()
            for variable, value in ((metric.total, number), (metric.count, 1.0))
        ]
        with keras.StatelessScope(state_mapping=mapping):
            results = {name: _to_number(name, value) for name, value in self.model.get_metrics_result().items()}
        named_means = {name: means_by_marker[value] for name, value in results.items() if value in means_by_marker}
        return named_means, list(results)


def _to_number(name: str, value: Any) -> float:
    if getattr(value, "shape", ()) != ():
        raise ConfigError(
            f"metric {name!r} returns shape {value.shape}; expected one number; for example, use "
            "F1Score(average='macro')"
        )
    return float(value)


def _is_mean(metric: Any) -> bool:
    """Returns whether the result is total / count; false for example for the root of a mean."""
    mean = keras.metrics.Mean
    return isinstance(metric, mean) and type(metric).result is mean.result
