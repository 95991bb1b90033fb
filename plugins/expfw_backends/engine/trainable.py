"""Preparation of a built model: its steps, and checks before the training starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from expfw import ConfigError, Splits, Train
from expfw_backends.engine.model_arrays import get_tensorflow_variable
from expfw_backends.engine.steps import (
    CustomStep,
    EvaluationStep,
    KerasForward,
    ModuleForward,
    Step,
    TrainingStep,
    has_custom_step,
)
from expfw_backends.engine.update import Update

_PROBE_SAMPLES = 32


class TrainableModel:
    """The steps of one model under one strategy.

    Attributes:
        train_step: step for the training loop.
        evaluation_step: step for the evaluation loop.
        update: updates the weights; None if the model has a custom `train_step`.

    Raises:
        ConfigError: if the model is not compiled, or its results would differ on several replicas or in parts.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, model: Any, data: Splits, config: Train, keep_gradients: bool = False
    ) -> None:
        self.keep_gradients = keep_gradients
        self.model, self.replicas = model, strategy.num_replicas_in_sync
        self.is_keras = isinstance(model, keras.Model)
        self._check_compiled()
        with strategy.scope():
            forward = self._make_forward(data, config.batch_size)
            optimizer = getattr(model, "optimizer", None)
            if optimizer is not None and not optimizer.built:
                optimizer.build(model.trainable_variables)
        self.update: Update | None = None
        self.train_step = self._make_training_step(strategy, forward, config)
        self.evaluation_step: Step = EvaluationStep(forward)
        if self.is_keras and has_custom_step(model, "test_step"):
            self.evaluation_step = CustomStep(model, "test_step")
        if self.replicas > 1:
            self._check_slices(data, config)
        if self.is_keras and self.replicas > 1 and config.accumulate > 1:
            self._check_batch_norm(config.accumulate)
        if self.replicas > 1 or config.accumulate > 1:
            partition = f"{self.replicas} replicas" if self.replicas > 1 else f"train.accumulate={config.accumulate}"
            if self.is_keras:
                self._check_loss_type(data, partition)
            self._check_loss_is_mean(data, partition)

    def reset_metrics(self) -> None:
        """Resets the accumulating metrics; called before an epoch or evaluation."""
        if self.is_keras:
            self.model.reset_metrics()

    def list_metric_names(self, data: Splits) -> list[str]:
        """Returns the names of the values of a step: loss and metrics."""
        if self.is_keras:
            return list(self.model.get_metrics_result())
        batch = tf.nest.map_structure(tf.constant, data.train.take(slice(1)).parts)
        return list(tf.function(self.model.test_step).get_concrete_function(batch).structured_outputs)

    def get_metric_state(self) -> list[np.ndarray]:
        """Returns the state of the metrics; `restore_metric_state` restores it after an evaluation."""
        return [variable.numpy() for variable in self._list_metric_variables()]

    def restore_metric_state(self, metric_state: list[np.ndarray]) -> None:
        """Restores the state of the metrics."""
        for variable, value in zip(self._list_metric_variables(), metric_state, strict=True):
            variable.assign(value)

    def get_learning_rate(self) -> float | None:
        """Returns the learning rate of the optimizer at its current step; None without an optimizer."""
        optimizer = getattr(self.model, "optimizer", None)
        return None if optimizer is None else float(get_tensorflow_variable(optimizer.learning_rate).numpy())

    def _list_metric_variables(self) -> list[Any]:
        return [variable for metric in getattr(self.model, "metrics", ()) for variable in metric.variables]

    def _make_forward(self, data: Splits, batch_size: int) -> KerasForward | ModuleForward:
        """Runs a batch through the model to create all its variables."""
        if not self.is_keras:
            return ModuleForward(self.model)
        x, y, weight, output = self._compute_output(data, slice(batch_size))
        self.model.compute_loss(x, y, output, weight)
        self.model.compute_metrics(x, y, output, weight)
        self.model.reset_metrics()
        forward = KerasForward(self.model, self.replicas)
        forward.metrics.find_external_means(x, y, output, weight)
        return forward

    def _compute_output(self, data: Splits, rows: slice) -> tuple[Any, Any, Any, Any]:
        """Returns some training samples, their targets and weights, and the output of the model in inference mode."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data.train.take(rows).parts)
        x, y = (tf.nest.map_structure(tf.constant, part) for part in (x, y))
        return x, y, weight, self.model(x)

    def _make_training_step(
        self, strategy: tf.distribute.Strategy, forward: KerasForward | ModuleForward, config: Train
    ) -> Step:
        if has_custom_step(self.model, "train_step"):
            unsupported_options = {
                n: getattr(config, n) for n in ("clip_norm", "clip_value", "average") if getattr(config, n)
            }
            if config.accumulate > 1:
                unsupported_options["accumulate"] = config.accumulate
            if self.keep_gradients:
                raise ConfigError(
                    "a callback needs gradients, but the custom train_step of this model does not return them; remove "
                    "the callback, or the method train_step"
                )
            for name, value in unsupported_options.items():
                raise ConfigError(
                    f"train.{name}={value} needs gradients, but the custom train_step of this model does not return "
                    "them; remove the option, or the method train_step"
                )
            return CustomStep(self.model, "train_step")
        variables, optimizer = list(self.model.trainable_variables), self.model.optimizer
        if not variables:
            raise ConfigError("the model has no trainable variables")
        self.update = Update(
            strategy, optimizer, variables, config.clip_norm, config.clip_value, config.average, self.keep_gradients
        )
        return TrainingStep(forward, self.update, config.accumulate)

    def _check_compiled(self) -> None:
        if self.is_keras and not self.model.compiled:
            raise ConfigError("the model is not compiled; call model.compile(optimizer, loss) in `build` of the plugin")
        optimizer = getattr(self.model, "optimizer", None)
        if not has_custom_step(self.model, "train_step") and not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ConfigError(
                f"the model's optimizer is {optimizer!r}; expected a Keras optimizer, or a custom train_step"
            )

    def _check_slices(self, data: Splits, config: Train) -> None:
        if not isinstance(self.train_step, CustomStep) and not isinstance(self.evaluation_step, CustomStep):
            return
        sizes = {name: len(split) for name, split in data.get_splits().items()}
        uneven_splits = [name for name, size in sizes.items() if size % config.batch_size % self.replicas]
        if config.batch_size % self.replicas or uneven_splits:
            raise ConfigError(
                f"a custom train_step or test_step needs slices of equal size: with {self.replicas} replicas, "
                f"train.batch_size={config.batch_size} and the number of samples in the last batch of "
                f"{', '.join(uneven_splits) or 'each split'} must be divisible by {self.replicas}"
            )

    def _check_batch_norm(self, parts: int) -> None:
        """Rejects synchronised batch normalisation: replicas cannot communicate in the loop over parts of a batch."""
        for layer in self.model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
                raise ConfigError(
                    f"train.accumulate={parts} on {self.replicas} replicas does not support synchronised batch "
                    f"normalisation (layer {layer.name}); use train.accumulate=1, or one device"
                )

    def _check_loss_type(self, data: Splits, partition: str) -> None:
        """Rejects a loss that is not a mean over samples; combined from parts, it would have another value."""
        if type(self.model).compute_loss is not keras.Model.compute_loss:
            raise ConfigError(
                f"this model overrides compute_loss; with {partition}, a loss that is not a mean over samples would "
                "have another value; use one device and train.accumulate=1, or pass the loss to model.compile"
            )
        for loss in _flatten_losses(self.model.loss):
            if isinstance(loss, keras.losses.Loss) and loss.reduction != "sum_over_batch_size":
                raise ConfigError(
                    f"the loss {loss.name} has reduction={loss.reduction!r}, which cannot be combined from parts of a "
                    f"batch; with {partition} use 'sum_over_batch_size'"
                )
        output = self._compute_output(data, slice(2))[-1]
        if any(getattr(tensor, "_keras_mask", None) is not None for tensor in tf.nest.flatten(output)):
            raise ConfigError(
                f"the output of the model has a mask, so its loss is a mean over unmasked values; with {partition} it "
                "would have another value; use one device and train.accumulate=1"
            )

    def _check_loss_is_mean(self, data: Splits, partition: str) -> None:
        """Rejects a loss that is not a mean over samples, detected with some training samples."""
        count = min(len(data.train), _PROBE_SAMPLES)
        if count < 2 or isinstance(self.train_step, CustomStep):
            return
        loss_of_all, loss_of_first, loss_of_rest = (
            self._compute_loss(data, rows) for rows in (slice(count), slice(1), slice(1, count))
        )
        mean = (loss_of_first + (count - 1) * loss_of_rest) / count
        if not np.isclose(loss_of_all, mean, rtol=0.03, atol=1e-3, equal_nan=True):
            raise ConfigError(
                f"the loss of {count} samples is {loss_of_all:.6g}, but the mean of their losses is {mean:.6g}; with "
                f"{partition} the loss would have another value; use a loss that is a mean over samples, or one device "
                "and train.accumulate=1"
            )

    def _compute_loss(self, data: Splits, rows: slice) -> float:
        """Returns the loss of some training samples, in inference mode."""
        if not self.is_keras:
            batch = tf.nest.map_structure(tf.constant, data.train.take(rows).parts)
            return float(self.model.test_step(batch)["loss"])
        x, y, weight, output = self._compute_output(data, rows)
        loss = float(self.model.compute_loss(x, y, output, weight))
        self.model.reset_metrics()
        return loss


def _flatten_losses(loss: Any) -> Iterator[Any]:
    """Yields all losses in the `loss` argument of `compile`."""
    if isinstance(loss, dict):
        loss = list(loss.values())
    if isinstance(loss, (list, tuple)):
        for part in loss:
            yield from _flatten_losses(part)
    else:
        yield loss
