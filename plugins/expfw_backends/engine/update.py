"""What happens to the weights in a step, once their gradients are there."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError
from expfw_backends.engine.fused_kernels import fused
from expfw_backends.engine.model_arrays import tensorflow_variable

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
        average: decay of the moving average of the weights per step; None for none. It begins at their initial values.
        keep: whether the gradients of each step are kept, in `kept`, for who wants to see them.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        optimizer: keras.optimizers.Optimizer,
        variables: list[Any],
        clip_norm: float | None = None,
        clip_value: float | None = None,
        average: float | None = None,
        keep: bool = False,
    ) -> None:
        self.strategy, self.optimizer = strategy, optimizer
        self.trained = variables
        self.variables = [tensorflow_variable(variable) for variable in variables]
        self.clip_norm, self.clip_value, self.decay = clip_norm, clip_value, average
        self.replicas = strategy.num_replicas_in_sync
        self.averages: list[tf.Variable] = []
        self.kept: list[tf.Variable] = []
        if self.replicas > 1:
            self._refuse_keras_options()
        if average is not None:
            with strategy.scope():
                self.averages = [tf.Variable(v.numpy(), trainable=False, name="average") for v in self.variables]

        if keep:
            with strategy.scope():
                self.kept = [self._kept(variable) for variable in self.variables]

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss times what the optimizer wants it scaled by, so that small gradients survive in 16 bits."""
        return self.optimizer.scale_loss(loss)

    def __call__(self, gradients: list[Any]) -> None:
        """On a replica.

        Args:
            gradients: of this replica's contribution, one for each variable; None for a variable that takes no part.
        """
        present = [number for number, gradient in enumerate(gradients) if gradient is not None]
        if not present:
            raise ConfigError("no trained variable takes part in the loss; check the model's loss")
        whole, trained = [gradients[number] for number in present], [self.trained[number] for number in present]
        scaled_by_optimizer = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        clips = self.clip_norm is not None or self.clip_value is not None
        if self.replicas > 1 and (clips or scaled_by_optimizer or self.kept):
            whole = list(tf.distribute.get_replica_context().all_reduce("SUM", whole))
            self._keep(whole, present)
            whole = self._clipped(whole)
            whole = [tf.math.scalar_mul(1 / self.replicas, g) for g in whole]  # the optimizer adds them up once more
        else:
            self._keep(whole, present)
            whole = self._clipped(whole)
        self._apply(whole, trained)

    def _apply(self, gradients: list[Any], variables: list[Any]) -> None:
        if tf.distribute.has_strategy() or type(self.optimizer).apply is not keras.optimizers.Optimizer.apply:
            self.optimizer.apply(gradients, variables)
            return

        def apply(_: tf.distribute.Strategy) -> None:
            with fused(self.optimizer):
                self.optimizer.apply(gradients, variables)

        # In a replica Keras would add up gradients of replicas, through a function of TensorFlow's that keeps the whole
        # graph for as long as the process lives.
        tf.distribute.get_replica_context().merge_call(apply)

    def average(self) -> None:
        """Outside of the replicas, after the step: moves the averages towards the weights."""
        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            self.strategy.extended.update(average, self._move, args=(variable,), group=False)

    def end(self) -> None:
        """After the last step: the averages, ours or those of Keras' `use_ema`, become the weights."""
        self.swap()
        self.optimizer.finalize_variable_values(self.trained)

    def swap(self) -> None:
        """Exchanges weights and averages: before an evaluation, and after it."""
        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            value = variable.numpy()
            variable.assign(average.numpy())
            average.assign(value)

    def _move(self, average: tf.Variable, variable: tf.Tensor) -> None:
        assert self.decay is not None, "without it there are no averages"
        average.assign_add((tf.convert_to_tensor(variable) - average) * (1 - self.decay))

    def _kept(self, variable: Any) -> tf.Variable:
        # All replicas have the same, so the first one's will do.
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return tf.Variable(
            tf.zeros(variable.shape, variable.dtype), trainable=False, name="gradient", aggregation=first
        )

    def _keep(self, gradients: list[Any], present: list[int]) -> None:
        if self.kept:
            scale = self.optimizer.scale_loss(tf.constant(1.0))
            for number, gradient in zip(present, gradients, strict=True):
                self.kept[number].assign(tf.convert_to_tensor(gradient) / tf.cast(scale, gradient.dtype))

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        if self.clip_norm is None and self.clip_value is None:
            return gradients
        scale = self.optimizer.scale_loss(tf.constant(1.0))
        gradients = [tf.convert_to_tensor(g) for g in gradients]  # a sparse one may have a row twice, in two parts
        if self.clip_value is not None:
            largest = self.clip_value * scale
            gradients = [tf.clip_by_value(g, -largest, largest) for g in gradients]
        if self.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm * scale)
        return gradients

    def _refuse_keras_options(self) -> None:
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        for name, instead in _KERAS_OPTIONS.items():
            if getattr(optimizer, name, None):
                raise ConfigError(
                    f"the optimizer has {name}={getattr(optimizer, name)}, which Keras computes on each replica by "
                    f"itself; with {self.replicas} replicas use {instead}"
                )
