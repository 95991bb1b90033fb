"""Preparation of a built model: its steps, its evaluation, and checks before the training starts."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from expfw import ConfigError, Split, Splits, Train
from expfw_backends.engine.loop import Loop, RunningMeans
from expfw_backends.engine.metrics import KerasMetrics
from expfw_backends.engine.model_arrays import get_tensorflow_variable
from expfw_backends.engine.steps import ModelStep, Step
from expfw_backends.engine.update import Update

_PROBE_SAMPLES = 32


class TrainableModel:
    """One model, built in the scope of a strategy, with a loop for its training and one for its evaluation.

    `make_loop` creates a compiled loop from a strategy, a step and a batch size. `update` is None if the model has a
    custom `train_step`.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: Any,
        data: Splits,
        config: Train,
        make_loop: Any = Loop,
        keep_gradients: bool = False,
    ) -> None:
        self.model, self.data, self.config = model, data, config
        self.replicas = strategy.num_replicas_in_sync
        self.is_keras = isinstance(model, keras.Model)
        # The engine can call a custom step only as a whole.
        has_test_step = self.is_keras and type(model).test_step is not keras.Model.test_step
        owner = type(model) if self.is_keras else model
        self.has_train_step = getattr(owner, "train_step", None) not in (None, keras.Model.train_step)
        self._check_model(keep_gradients)
        forward: KerasMetrics | ModelStep
        with strategy.scope():
            if self.is_keras:
                # these three calls create all variables
                sample = self._compute_sample(slice(config.batch_size))
                model.compute_loss(*sample)
                model.compute_metrics(*sample)
                model.reset_metrics()
                forward = KerasMetrics(model, sample)
            else:
                forward = ModelStep(model, "test_step")
            optimizer = getattr(model, "optimizer", None)
            if optimizer is not None and not optimizer.built:
                optimizer.build(model.trainable_variables)
        self.update = None if self.has_train_step else Update(strategy, model, config, keep_gradients)
        train_forward = ModelStep(model, "train_step") if self.has_train_step else forward
        train_step = Step(train_forward, self.update, config.accumulate)
        evaluation_step = Step(ModelStep(model, "test_step") if has_test_step else forward)
        if self.replicas > 1 or config.accumulate > 1:
            self._check_division(self.has_train_step or has_test_step)
        self.train_loop = make_loop(strategy, train_step, config.batch_size)
        evaluation_size = config.batch_size
        if self.replicas == 1:
            # A last batch of another size needs another traced function, which takes as long as a hundred steps of a
            # small network, so a size that divides all splits is better, if it is not less than half.
            divisor = math.gcd(*(len(split) for name, split in data.get_splits().items() if name != "train"))
            sizes = range(config.batch_size, config.batch_size // 2, -1)
            evaluation_size = next((size for size in sizes if divisor % size == 0), config.batch_size)
        self.evaluation_loop = make_loop(strategy, evaluation_step, evaluation_size)

    def list_metrics(self) -> list[str]:
        """Returns the names of the metrics of all splits that the model computes."""
        prefixes = {"train": ("train/", "train/epoch_"), "validation": ("val/",), "test": ("test/",)}
        if self.is_keras:
            names = self.model.get_metrics_result()
        else:
            sample = tf.nest.map_structure(tf.constant, self.data.train.take(slice(1)).parts)
            names = tf.function(self.model.test_step).get_concrete_function(sample).structured_outputs
        return [prefix + name for split in self.data.get_splits() for prefix in prefixes[split] for name in names]

    def evaluate(self, split: Split) -> dict[str, float]:
        """Returns loss and metrics over the samples of a split, in order; the state of the metrics does not change."""
        metric_variables = [variable for metric in getattr(self.model, "metrics", ()) for variable in metric.variables]
        metric_values = [variable.numpy() for variable in metric_variables]
        self.reset_metrics()
        means = RunningMeans()
        order = np.arange(len(split), dtype=np.int32)
        means.add(self.evaluation_loop.run(split, order, 0, -(-len(split) // self.evaluation_loop.batch_size)))
        for variable, value in zip(metric_variables, metric_values, strict=True):
            variable.assign(value)
        return means.take("")

    def reset_metrics(self) -> None:
        """Resets the accumulating metrics; called before an epoch or evaluation."""
        if self.is_keras:
            self.model.reset_metrics()

    def get_learning_rate(self) -> float | None:
        """Returns the learning rate of the optimizer at its current step; None without an optimizer."""
        optimizer = getattr(self.model, "optimizer", None)
        return None if optimizer is None else float(get_tensorflow_variable(optimizer.learning_rate).numpy())

    def _compute_sample(self, rows: slice) -> tuple[Any, Any, Any, Any]:
        """Returns training samples, their targets, the output of the model in inference mode, and the weights."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(self.data.train.take(rows).parts)
        x, y = (tf.nest.map_structure(tf.constant, part) for part in (x, y))
        return x, y, self.model(x), weight

    def _check_model(self, keep_gradients: bool) -> None:
        """Rejects a model without an optimizer, and options that a custom `train_step` does not support."""
        if self.is_keras and not self.model.compiled:
            raise ConfigError("the model is not compiled; call model.compile(optimizer, loss) in `build` of the plugin")
        if not self.has_train_step:
            optimizer = getattr(self.model, "optimizer", None)
            if not isinstance(optimizer, keras.optimizers.Optimizer):
                raise ConfigError(
                    f"the model's optimizer is {optimizer!r}; expected a Keras optimizer, or a train_step"
                )
            return
        defaults = {"clip_norm": None, "clip_value": None, "average": None, "accumulate": 1}
        values = {name: getattr(self.config, name) for name in defaults}
        users = [f"train.{name}={value}" for name, value in values.items() if value != defaults[name]]
        if keep_gradients:
            users.append("a callback")
        if users:
            raise ConfigError(
                f"{users[0]} needs gradients, but the custom train_step of this model does not return them; remove it, "
                "or the method train_step"
            )

    def _check_division(self, has_custom_step: bool) -> None:
        """Rejects a model whose results would change if each batch is computed in slices or parts."""
        size, accumulate = self.config.batch_size, self.config.accumulate
        uneven_splits = [n for n, split in self.data.get_splits().items() if len(split) % size % self.replicas]
        if has_custom_step and (size % self.replicas or uneven_splits):
            raise ConfigError(
                f"a custom train_step or test_step needs slices of equal size: with {self.replicas} replicas, "
                f"train.batch_size={size} and the number of samples in the last batch of "
                f"{', '.join(uneven_splits) or 'each split'} must be divisible by {self.replicas}"
            )
        if self.is_keras and self.replicas > 1 and accumulate > 1:
            for layer in self.model._flatten_layers():  # `layers` has no nested layers
                if isinstance(layer, keras.layers.BatchNormalization) and layer.synchronized:
                    # Replicas cannot communicate in the loop over parts of a batch.
                    raise ConfigError(
                        f"train.accumulate={accumulate} on {self.replicas} replicas does not support synchronised "
                        f"batch normalisation (layer {layer.name}); use train.accumulate=1, or one device"
                    )
        if problem := self._find_loss_problem():
            partition = f"{self.replicas} replicas" if self.replicas > 1 else f"train.accumulate={accumulate}"
            raise ConfigError(
                f"{problem}; with {partition} the loss would have another value; use a loss that is a mean over "
                "samples, or one device and train.accumulate=1"
            )

    def _find_loss_problem(self) -> str:
        """Returns why the loss is not a mean over samples, or an empty text."""
        if self.is_keras:
            if type(self.model).compute_loss is not keras.Model.compute_loss:
                return "this model overrides compute_loss"
            for loss in keras.tree.flatten(self.model.loss):
                if isinstance(loss, keras.losses.Loss) and loss.reduction != "sum_over_batch_size":
                    return f"the loss {loss.name} has reduction={loss.reduction!r}, not 'sum_over_batch_size'"
            # `_keras_mask`: Keras stores the mask of an output nowhere else
            outputs = tf.nest.flatten(self._compute_sample(slice(2))[2])
            if any(getattr(tensor, "_keras_mask", None) is not None for tensor in outputs):
                return "the output of the model has a mask"
        count = min(len(self.data.train), _PROBE_SAMPLES)
        if count < 2 or self.has_train_step:
            return ""
        loss_of_all, loss_of_first, loss_of_rest = map(self._compute_loss, (slice(count), slice(1), slice(1, count)))
        mean = (loss_of_first + (count - 1) * loss_of_rest) / count
        if np.isclose(loss_of_all, mean, rtol=0.03, atol=1e-3, equal_nan=True):
            return ""
        return f"the loss of {count} samples is {loss_of_all:.6g}, but the mean of their losses is {mean:.6g}"

    def _compute_loss(self, rows: slice) -> float:
        """Returns the loss of some training samples, in inference mode."""
        if not self.is_keras:
            batch = tf.nest.map_structure(tf.constant, self.data.train.take(rows).parts)
            return float(self.model.test_step(batch)["loss"])
        loss = float(self.model.compute_loss(*self._compute_sample(rows)))
        self.model.reset_metrics()
        return loss
