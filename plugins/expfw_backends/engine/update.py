"""Update of the weights from their gradients."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError
from expfw_backends.engine.fused_kernels import fused_update
from expfw_backends.engine.model_arrays import get_tensorflow_variable

_KERAS_OPTIONS = {
    "clipnorm": "train.clip_norm, which limits the norm of the whole gradient",
    "global_clipnorm": "train.clip_norm",
    "clipvalue": "train.clip_value",
    "use_ema": "train.average",
    "gradient_accumulation_steps": "train.accumulate",
}


class Update:
    """Adds up the gradients over the replicas, clips them, applies them and averages the weights.

    Clipping uses the gradient of the whole batch, so the same options lead to the same results on any number of
    replicas.

    Args:
        strategy: strategy of the training.
        optimizer: a Keras optimizer, built for `variables`.
        variables: trained variables.
        clip_norm: maximum norm of all gradients together.
        clip_value: maximum absolute value of an element.
        average: decay per step of the moving average of the weights; None for no average. The average starts at the
            initial weights.
        keep_gradients: whether `kept_gradients` contains the gradients of the last step.

    Raises:
        ConfigError: if the optimizer has options that depend on the number of replicas.
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
            self._reject_keras_options()
        if average is not None:
            with strategy.scope():
                self.averages = [tf.Variable(v.numpy(), trainable=False, name="average") for v in self.variables]

        if keep_gradients:
            with strategy.scope():
                self.kept_gradients = [self._make_gradient_variable(variable) for variable in self.variables]

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Multiplies the loss by the loss scale of the optimizer, so that small gradients are not lost in 16 bits."""
        return self.optimizer.scale_loss(loss)

    def __call__(self, gradients: list[Any]) -> None:
        """Updates the weights on one replica.

        Args:
            gradients: gradients of the slice of the replica, one per variable; None for a variable that the loss does
                not depend on.

        Raises:
            ConfigError: if all gradients are None.
        """
        present_indices = [number for number, gradient in enumerate(gradients) if gradient is not None]
        if not present_indices:
            raise ConfigError("the loss does not depend on any trained variable; check the loss of the model")
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
            ]  # the optimizer adds up the gradients of the replicas again
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

        # In replica context, Keras would add up gradients with a TensorFlow function that keeps the whole graph until
        # the process ends.
        tf.distribute.get_replica_context().merge_call(apply)

    def update_averages(self) -> None:
        """Moves the averages towards the weights; called after the step, outside of the replicas."""
        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            self.strategy.extended.update(average, self._move_average, args=(variable,), group=False)

    def finalize_weights(self) -> None:
        """Replaces the weights by their averages (`train.average` or Keras `use_ema`); called after the last step."""
        self.swap_averages()
        self.optimizer.finalize_variable_values(self.model_variables)

    def swap_averages(self) -> None:
        """Swaps weights and averages; called before and after an evaluation."""
        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            value = variable.numpy()
            variable.assign(average.numpy())
            average.assign(value)

    def _move_average(self, average: tf.Variable, variable: tf.Tensor) -> None:
        assert self.decay is not None, "averages exist only with a decay"
        average.assign_add((tf.convert_to_tensor(variable) - average) * (1 - self.decay))

    def _make_gradient_variable(self, variable: Any) -> tf.Variable:
        # All replicas have the same value, so that of the first replica is sufficient.
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
        gradients = [tf.convert_to_tensor(g) for g in gradients]  # a sparse gradient may contain a row twice
        if self.clip_value is not None:
            max_size = self.clip_value * scale
            gradients = [tf.clip_by_value(g, -max_size, max_size) for g in gradients]
        if self.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm * scale)
        return gradients

    def _reject_keras_options(self) -> None:
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        for name, replacement in _KERAS_OPTIONS.items():
            if getattr(optimizer, name, None):
                raise ConfigError(
                    f"the optimizer has {name}={getattr(optimizer, name)}, which Keras computes separately on each "
                    f"replica; with {self.replicas} replicas use {replacement}"
                )
