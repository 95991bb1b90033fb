"""The metrics of a Keras model, batch by batch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError
from expfw_backends.engine.fused_kernels import fused_accuracy

_FIRST_MARKER = 1_000_001.0  # no metric that has seen nothing has such a value


class KerasMetrics:
    """Splits what a model's metrics come to into values of single batches.

    A metric that is a mean keeps a total and a count. Each batch begins at zero, so that both are those of that batch
    and can be added up over any samples, in float64, outside of the compiled loop. Other metrics (an AUC, say) cannot
    be put together from batches: they accumulate over the epoch, and their value after the last batch counts.

    Attributes:
        mean_names: of the means, as the model reports them, without the loss. last_names: of the others.
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
        """Finds out, with a sample, which means `compute_metrics` updates."""
        zeros = self._make_zeros()
        scope = self._make_scope(zeros)
        with scope:
            self.model.compute_metrics(x, y, output, weight)
        self._external_means = [
            metric for name, metric in self.means.items() if scope.get_current_value(metric.total) is zeros[name][0]
        ]

    def reset_external_means(self) -> None:
        """Before the forward pass of a batch."""
        for metric in self._external_means:
            metric.reset_state()

    def reset_all_means(self) -> None:
        """Before a step of the model's own, which updates what it likes."""
        for metric in self._all_means:
            metric.reset_state()

    def compute_batch_sums(
        self, x: Any, y: Any, output: Any, weight: Any, counts_metrics: bool = True
    ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Total and count of each mean for this batch. Touches no variable of theirs, which saves a good deal of time.

        Args:
            x, y, output, weight: samples, targets, what the model made of them, sample weights or None.
            counts_metrics: whether metrics that accumulate are to see this batch.
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
        """The values of those that are no means."""
        if not self.last_names:
            return {}
        results = self.model.get_metrics_result()
        return {name: results[name] for name in self.last_names}

    def _compute_batch_sum(
        self, metric: keras.metrics.Mean, scope: keras.StatelessScope, samples: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if metric in self._external_means:  # Keras counts a loss of several once a batch, whatever its size
            count = tf.convert_to_tensor(metric.count.value)
            samples = tf.where(count > 0, samples, 0.0)
            mean = tf.math.divide_no_nan(tf.convert_to_tensor(metric.total.value), count)
            return tf.cast(mean, tf.float32) * samples, samples
        total, count = scope.get_current_value(metric.total), scope.get_current_value(metric.count)
        return tf.cast(total, tf.float32), tf.cast(count, tf.float32)

    def _make_zeros(self) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Also for the loss, which is not asked for: else its variables would be read."""
        return {n: (tf.zeros((), m.total.dtype), tf.zeros((), m.count.dtype)) for n, m in self._named_means.items()}

    def _make_scope(self, initial_values: dict[str, tuple[tf.Tensor, tf.Tensor]]) -> keras.StatelessScope:
        mapping = [
            (variable, value)
            for name, metric in self._named_means.items()
            for variable, value in zip((metric.total, metric.count), initial_values[name], strict=True)
        ]
        return keras.StatelessScope(state_mapping=mapping)

    def _match_reported_names(self, means: list[keras.metrics.Mean]) -> tuple[dict[str, keras.metrics.Mean], list[str]]:
        """Under which names the model reports them: each is given its number as its value, then the model is asked."""
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
            f"metric {name!r} gives {value.shape} values; expected one number, as with average='macro' for F1Score"
        )
    return float(value)


def _is_mean(metric: Any) -> bool:
    """Whether its result is its total by its count; the root of a mean, for example, is not."""
    mean = keras.metrics.Mean
    return isinstance(metric, mean) and type(metric).result is mean.result
