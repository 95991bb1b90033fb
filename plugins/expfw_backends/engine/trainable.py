"""A built model made ready to train: its variables, its steps, and what it cannot do said before it begins."""

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

_PROBE_SAMPLES = 32  # samples


class TrainableModel:
    """The steps of one model under one strategy.

    Attributes:
        train_step, evaluation_step: what the loop runs.
        update: how gradients become weights; None where the model's own step does that.

    Raises:
        ConfigError: the model is not compiled, or has what would give other numbers on several replicas.
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
        """Begins a new epoch or evaluation for the metrics that accumulate."""
        if self.is_keras:
            self.model.reset_metrics()

    def list_metric_names(self, data: Splits) -> list[str]:
        """What a step comes to: the loss and the metrics."""
        if self.is_keras:
            return list(self.model.get_metrics_result())
        batch = tf.nest.map_structure(tf.constant, data.train.take(slice(1)).parts)
        return list(tf.function(self.model.test_step).get_concrete_function(batch).structured_outputs)

    def get_metric_state(self) -> list[np.ndarray]:
        """What the metrics have accumulated; for `restore_metric_state`, after others have gone through them."""
        return [variable.numpy() for variable in self._list_metric_variables()]

    def restore_metric_state(self, metric_state: list[np.ndarray]) -> None:
        """Sets it again."""
        for variable, value in zip(self._list_metric_variables(), metric_state, strict=True):
            variable.assign(value)

    def get_learning_rate(self) -> float | None:
        """The optimizer's, at its present step."""
        optimizer = getattr(self.model, "optimizer", None)
        return None if optimizer is None else float(get_tensorflow_variable(optimizer.learning_rate).numpy())

    def _list_metric_variables(self) -> list[Any]:
        return [variable for metric in getattr(self.model, "metrics", ()) for variable in metric.variables]

    def _make_forward(self, data: Splits, batch_size: int) -> KerasForward | ModuleForward:
        """Runs a batch through the model, so that all its variables are created."""
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
        """Some training samples, their targets and weights, and what the model makes of them, not training."""
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
                raise ConfigError("a callback wants to see gradients, but this model's own train_step has them")
            for name, value in unsupported_options.items():
                raise ConfigError(f"train.{name}={value} needs the gradients, but this model's own train_step has them")
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
            raise ConfigError("the model is not compiled; call model.compile(optimizer, loss) in the plugin's build")
        optimizer = getattr(self.model, "optimizer", None)
        if not has_custom_step(self.model, "train_step") and not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ConfigError(
                f"the model's optimizer is {optimizer!r}; expected a Keras optimizer, or a train_step of its own"
            )

    def _check_slices(self, data: Splits, config: Train) -> None:
        if not isinstance(self.train_step, CustomStep) and not isinstance(self.evaluation_step, CustomStep):
            return
        sizes = {name: len(split) for name, split in data.get_splits().items()}
        uneven_splits = [name for name, size in sizes.items() if size % config.batch_size % self.replicas]
        if config.batch_size % self.replicas or uneven_splits:
            raise ConfigError(
                f"this model has a step of its own, which is right only for slices of one size: with {self.replicas} "
                f"replicas, train.batch_size={config.batch_size} and the samples left over in the last batch of "
                f"{', '.join(uneven_splits) or 'each split'} must divide by {self.replicas}"
            )

    def _check_batch_norm(self, parts: int) -> None:
        """TensorFlow's replicas cannot meet within the loop over the parts of a batch."""
        for layer in self.model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
                raise ConfigError(
                    f"train.accumulate={parts} on {self.replicas} replicas with batch normalisation over all of them "
                    f"(layer {layer.name}) cannot be computed; use train.accumulate=1, or one device"
                )

    def _check_loss_type(self, data: Splits, partition: str) -> None:
        """A loss that is no mean over samples would be another one, put together from pieces of a batch."""
        if type(self.model).compute_loss is not keras.Model.compute_loss:
            raise ConfigError(
                f"this model overrides compute_loss, which need not be a mean over samples; with {partition} it would "
                "be another loss. Use one device and no parts, or a loss given to compile"
            )
        for loss in _flatten_losses(self.model.loss):
            if isinstance(loss, keras.losses.Loss) and loss.reduction != "sum_over_batch_size":
                raise ConfigError(
                    f"the loss {loss.name} has reduction={loss.reduction!r}, which cannot be put together from pieces "
                    f"of a batch; with {partition} use 'sum_over_batch_size'"
                )
        output = self._compute_output(data, slice(2))[-1]
        if any(getattr(tensor, "_keras_mask", None) is not None for tensor in tf.nest.flatten(output)):
            raise ConfigError(
                f"the model's output has a mask, and its loss is a mean over what is not masked; with {partition} it "
                "would be another loss. Use one device and no parts"
            )

    def _check_loss_is_mean(self, data: Splits, partition: str) -> None:
        """The same, found by trying it with some samples."""
        count = min(len(data.train), _PROBE_SAMPLES)
        if count < 2 or isinstance(self.train_step, CustomStep):
            return
        loss_of_all, loss_of_first, loss_of_rest = (
            self._compute_loss(data, rows) for rows in (slice(count), slice(1), slice(1, count))
        )
        mean = (loss_of_first + (count - 1) * loss_of_rest) / count
        if not np.isclose(loss_of_all, mean, rtol=0.03, atol=1e-3, equal_nan=True):
            raise ConfigError(
                f"the loss of {count} samples is {loss_of_all:.6g}, the mean of their losses {mean:.6g}: with "
                f"{partition} it would be another loss. Use a loss that is a mean over samples, or one device and no "
                "parts"
            )

    def _compute_loss(self, data: Splits, rows: slice) -> float:
        """The loss of some training samples, not training."""
        if not self.is_keras:
            batch = tf.nest.map_structure(tf.constant, data.train.take(rows).parts)
            return float(self.model.test_step(batch)["loss"])
        x, y, weight, output = self._compute_output(data, rows)
        loss = float(self.model.compute_loss(x, y, output, weight))
        self.model.reset_metrics()
        return loss


def _flatten_losses(loss: Any) -> Iterator[Any]:
    """All losses in what was given to compile."""
    if isinstance(loss, dict):
        loss = list(loss.values())
    if isinstance(loss, (list, tuple)):
        for part in loss:
            yield from _flatten_losses(part)
    else:
        yield loss
