"""One step as the loop wants it, from a Keras model or a low-level module: values of that batch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

Step = Callable[[Any], dict[str, Any]]


def prepare(model: Any, x: Any, y: Any) -> None:
    """Creates what Keras would create in the first step: variables of optimizer and metrics.

    Args:
        x, y: a sample or more, with their targets.
    """
    if isinstance(model, keras.Model):
        output = model(x, training=False)
        model.compute_loss(x, y, output, training=False)
        model.compute_metrics(x, y, output)
        model.reset_metrics()
    optimizer = getattr(model, "optimizer", None)
    if isinstance(optimizer, keras.optimizers.Optimizer) and not optimizer.built:
        optimizer.build(model.trainable_variables)


def training_step(model: Any) -> Step:
    """`model.train_step`, returning values of its batch."""
    return _of_batch(model, model.train_step)


def evaluation_step(model: Any) -> Step:
    """`model.test_step`, returning values of its batch."""
    return _of_batch(model, model.test_step)


def _of_batch(model: Any, step: Step) -> Step:
    """A Keras model's metrics are means since their last reset: those that are means are reset before each batch.

    Others (an AUC, say) cannot be put together from batches: they go on, and their last value of an epoch counts.
    """
    if not isinstance(model, keras.Model):
        return step
    means = [metric for metric in _metrics(model) if isinstance(metric, keras.metrics.Mean)]

    def batch_step(batch: Any) -> dict[str, Any]:
        for metric in means:
            metric.reset_state()
        return step(batch)

    return batch_step


def cumulative(model: Any) -> set[str]:
    """Names of the metrics whose last value counts, because they are no means."""
    if not isinstance(model, keras.Model):
        return set()
    return {metric.name for metric in _metrics(model) if not isinstance(metric, keras.metrics.Mean)}


def _metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """All metrics, those inside containers too."""
    return [part for metric in model.metrics for part in getattr(metric, "metrics", [metric])]


def reset(model: Any) -> None:
    """Begins a new epoch or evaluation for the metrics that accumulate."""
    if isinstance(model, keras.Model):
        model.reset_metrics()
