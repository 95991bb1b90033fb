"""What happens to the weights in a step, once their gradients are there."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError
from expfw_backends.engine.fused_kernels import fused_update
from expfw_backends.engine.model_arrays import get_tensorflow_variable

_KERAS_OPTIONS = {
    "clipnorm": "train.clip_norm, which is the norm of the whole gradient",
    "global_clipnorm": "train.clip_norm",
    "clipvalue": "train.clip_value",
    "use_ema": "train.average",
    "gradient_accumulation_steps": "train.accumulate",
}


class Update:
    """Adds the gradients up over the replicas, clips them, applies them, averages the weights.

    Clipping sees the gradient of the whole batch, whatever the number of replicas; so the same options give the same
    numbers on any of them.

    Args:
        optimizer: a Keras optimizer, built for `variables`.
        variables: what is trained.
        clip_norm: largest norm of all gradients together; clip_value: largest size of an element.
        average: decay of the moving average of the weights per step; None for none. It begins at their initial
            values.
        keep_gradients: whether the gradients of each step are kept, in `kept_gradients`, for who wants to see them.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        optimizer: keras.optimizers.Optimizer,
        variables: list[Any],
        clip_norm: float | None = None,
        clip_value: float | None = None,
        average: float | None = None,
        keep_gradients: bool = False,
    ) -> None:
        self.strategy, self.optimizer = strategy, optimizer
        self.model_variables = variables
        self.variables = [get_tensorflow_variable(variable) for variable in variables]
        self.clip_norm, self.clip_value, self.decay = clip_norm, clip_value, average
        self.replicas = strategy.num_replicas_in_sync
        self.averages: list[tf.Variable] = []
        self.kept_gradients: list[tf.Variable] = []
        if self.replicas > 1:
            self._refuse_keras_options()
        if average is not None:
            with strategy.scope():
                self.averages = [tf.Variable(v.numpy(), trainable=False, name="average") for v in self.variables]

        if keep_gradients:
            with strategy.scope():
                self.kept_gradients = [self._make_gradient_variable(variable) for variable in self.variables]

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss times what the optimizer wants it scaled by, so that small gradients survive in 16 bits."""
        return self.optimizer.scale_loss(loss)

    def __call__(self, gradients: list[Any]) -> None:
        """On a replica.

        Args:
            gradients: of this replica's contribution, one for each variable; None for a variable that takes no part.
        """
        present_indices = [number for number, gradient in enumerate(gradients) if gradient is not None]
        if not present_indices:
            raise ConfigError("no trained variable takes part in the loss; check the model's loss")
        batch_gradients, variables = (
            [gradients[number] for number in present_indices],
            [self.model_variables[number] for number in present_indices],
        )
        has_loss_scaling = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        has_clipping = self.clip_norm is not None or self.clip_value is not None
        if self.replicas > 1 and (has_clipping or has_loss_scaling or self.kept_gradients):
            batch_gradients = list(tf.distribute.get_replica_context().all_reduce("SUM", batch_gradients))
            self._store_gradients(batch_gradients, present_indices)
            batch_gradients = self._clip_gradients(batch_gradients)
            batch_gradients = [
                tf.math.scalar_mul(1 / self.replicas, g) for g in batch_gradients
            ]  # the optimizer adds them up once more
        else:
            self._store_gradients(batch_gradients, present_indices)
            batch_gradients = self._clip_gradients(batch_gradients)
        self._apply(batch_gradients, variables)

    def _apply(self, gradients: list[Any], variables: list[Any]) -> None:
        if tf.distribute.has_strategy() or type(self.optimizer).apply is not keras.optimizers.Optimizer.apply:
            self.optimizer.apply(gradients, variables)
            return

        def apply(_: tf.distribute.Strategy) -> None:
            with fused_update(self.optimizer):
                self.optimizer.apply(gradients, variables)

        # In a replica Keras would add up gradients of replicas, through a function of TensorFlow's that keeps the whole
        # graph for as long as the process lives.
        tf.distribute.get_replica_context().merge_call(apply)

    def update_averages(self) -> None:
        """Outside of the replicas, after the step: moves the averages towards the weights."""
        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            self.strategy.extended.update(average, self._move_average, args=(variable,), group=False)

    def finalize_weights(self) -> None:
        """After the last step: the averages, ours or those of Keras' `use_ema`, become the weights."""
        self.swap_averages()
        self.optimizer.finalize_variable_values(self.model_variables)

    def swap_averages(self) -> None:
        """Exchanges weights and averages: before an evaluation, and after it."""
        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            value = variable.numpy()
            variable.assign(average.numpy())
            average.assign(value)

    def _move_average(self, average: tf.Variable, variable: tf.Tensor) -> None:
        assert self.decay is not None, "without it there are no averages"
        average.assign_add((tf.convert_to_tensor(variable) - average) * (1 - self.decay))

    def _make_gradient_variable(self, variable: Any) -> tf.Variable:
        # All replicas have the same, so the first one's will do.
        aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return tf.Variable(
            tf.zeros(variable.shape, variable.dtype), trainable=False, name="gradient", aggregation=aggregation
        )

    def _store_gradients(self, gradients: list[Any], present_indices: list[int]) -> None:
        if self.kept_gradients:
            scale = self.optimizer.scale_loss(tf.constant(1.0))
            for number, gradient in zip(present_indices, gradients, strict=True):
                self.kept_gradients[number].assign(tf.convert_to_tensor(gradient) / tf.cast(scale, gradient.dtype))

    def _clip_gradients(self, gradients: list[Any]) -> list[Any]:
        if self.clip_norm is None and self.clip_value is None:
            return gradients
        scale = self.optimizer.scale_loss(tf.constant(1.0))
        gradients = [tf.convert_to_tensor(g) for g in gradients]  # a sparse one may have a row twice, in two parts
        if self.clip_value is not None:
            max_size = self.clip_value * scale
            gradients = [tf.clip_by_value(g, -max_size, max_size) for g in gradients]
        if self.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm * scale)
        return gradients

    def _refuse_keras_options(self) -> None:
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        for name, replacement in _KERAS_OPTIONS.items():
            if getattr(optimizer, name, None):
                raise ConfigError(
                    f"the optimizer has {name}={getattr(optimizer, name)}, which Keras computes on each replica by "
                    f"itself; with {self.replicas} replicas use {replacement}"
                )
