"""Update of the weights from their gradients.

The most common Keras optimizers update a variable in one TensorFlow operation. The formulas and their constants are
those of Keras 3: `keras.optimizers.SGD`, `Adam`, `AdamW`. Keras rounds some constants to 32 bits, also with 64-bit
variables; so does this module, because replicas use the update of Keras. The updated weights differ from those of Keras
by the rounding of their own type at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError, Train
from expfw_backends.engine.model_arrays import get_tensorflow_variable

_REPLACEMENTS = {  # of Keras options that depend on the number of replicas
    "clipnorm": "train.clip_norm, which limits the norm of the whole gradient",
    "global_clipnorm": "train.clip_norm",
    "clipvalue": "train.clip_value",
    "use_ema": "train.average",
    "gradient_accumulation_steps": "train.accumulate",
}


class Update:
    """Adds up the gradients over the replicas, clips them, applies them and averages the weights.

    Clipping uses the gradient of the whole batch, so the same options lead to the same results on any number of
    replicas. The averages start at the initial weights.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: Any, config: Train, keep_gradients: bool) -> None:
        self.strategy, self.optimizer = strategy, model.optimizer
        self.model_variables = list(model.trainable_variables)
        self.variables = [get_tensorflow_variable(variable) for variable in self.model_variables]
        self.clip_norm, self.clip_value = config.clip_norm, config.clip_value
        self.average_rate = None if config.average is None else 1 - config.average
        self.replicas = strategy.num_replicas_in_sync
        self.averages: list[tf.Variable] = []
        self.kept_gradients: list[tf.Variable] = []  # of the last step, one per variable; only on request
        keras_options = vars(getattr(self.optimizer, "inner_optimizer", self.optimizer))
        for name, replacement in _REPLACEMENTS.items() if self.replicas > 1 else ():
            if keras_options.get(name):
                raise ConfigError(
                    f"the optimizer has {name}={keras_options[name]}, which Keras computes separately on each replica; "
                    f"with {self.replicas} replicas use {replacement}"
                )
        with strategy.scope():
            if self.average_rate is not None:
                self.averages = [tf.Variable(v.numpy(), trainable=False, name="average") for v in self.variables]
            if keep_gradients:
                # All replicas have the same value, so that of the first replica is sufficient.
                first = tf.VariableAggregation.ONLY_FIRST_REPLICA
                zeros = map(tf.zeros_like, self.variables)
                self.kept_gradients = [tf.Variable(z, trainable=False, aggregation=first) for z in zeros]

    def __call__(self, gradients: list[Any]) -> None:
        """Updates the weights on one replica; a gradient is None if the loss does not depend on its variable."""
        indices = [number for number, gradient in enumerate(gradients) if gradient is not None]
        if not indices:
            raise ConfigError("the loss does not depend on any trained variable; check the loss of the model")
        gradients = [gradients[number] for number in indices]
        has_loss_scaling = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        has_clipping = self.clip_norm is not None or self.clip_value is not None
        needs_sum = self.replicas > 1 and (has_clipping or has_loss_scaling or bool(self.kept_gradients))
        if needs_sum:
            gradients = list(tf.distribute.get_replica_context().all_reduce("SUM", gradients))
        if has_clipping or self.kept_gradients:
            scale = tf.cast(self.optimizer.scale_loss(tf.constant(1.0)), gradients[0].dtype)
            if self.kept_gradients:
                for number, gradient in zip(indices, gradients, strict=True):
                    self.kept_gradients[number].assign(tf.convert_to_tensor(gradient) / tf.cast(scale, gradient.dtype))
            if has_clipping:
                gradients = [tf.convert_to_tensor(g) for g in gradients]  # a sparse gradient may contain a row twice
            if self.clip_value is not None:
                limit = self.clip_value * scale
                gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
            if self.clip_norm is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm * scale)
        if needs_sum:  # the optimizer adds up the gradients of the replicas again
            gradients = [tf.math.scalar_mul(1 / self.replicas, gradient) for gradient in gradients]
        variables = [self.model_variables[number] for number in indices]
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

        def move(average: tf.Variable, variable: tf.Tensor) -> None:
            average.assign_add((tf.convert_to_tensor(variable) - average) * self.average_rate)

        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            self.strategy.extended.update(average, move, args=(variable,), group=False)

    def swap_averages(self) -> None:
        """Swaps weights and averages; called before and after an evaluation."""
        for average, variable in zip(self.averages, self.variables, strict=bool(self.averages)):
            value = variable.numpy()
            variable.assign(average.numpy())
            average.assign(value)


@contextmanager
def fused_update(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within the context, `update_step` of a supported optimizer is one operation; for variables without a strategy."""
    kind = type(optimizer)
    step = _apply_sgd if kind is keras.optimizers.SGD else _apply_adam
    is_supported = kind in (keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW)
    if not is_supported or getattr(optimizer, "amsgrad", False):
        yield
        return
    keras_update_step = optimizer.update_step
    rates_by_dtype: dict[str, tf.Tensor] = {}  # the learning rate is read once for all variables

    def update_step(gradient: Any, variable: tf.Variable, learning_rate: Any) -> None:
        if isinstance(gradient, tf.IndexedSlices):
            keras_update_step(gradient, variable, learning_rate)
            return
        if variable.dtype not in rates_by_dtype:
            rates_by_dtype[variable.dtype] = tf.cast(learning_rate, variable.dtype)
        step(optimizer, tf.cast(gradient, variable.dtype), variable, rates_by_dtype[variable.dtype])

    vars(optimizer)["update_step"] = update_step
    try:
        yield
    finally:
        del vars(optimizer)["update_step"]


def _apply_sgd(optimizer: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
    """Updates the variable; gradient and learning rate have its type."""
    if optimizer.momentum == 0:
        tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=learning_rate, delta=gradient)
        return
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        # Keras has no public function for the index of a variable.
        accum=optimizer.momentums[optimizer._get_variable_index(variable)].value.handle,
        lr=learning_rate,
        grad=gradient,
        momentum=keras.ops.cast(optimizer.momentum, variable.dtype),
        use_nesterov=optimizer.nesterov,
    )


def _apply_adam(optimizer: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
    dtype = variable.dtype  # the state of Keras' Adam is in private attributes only
    step, index = tf.cast(optimizer.iterations + 1, dtype), optimizer._get_variable_index(variable)
    beta_1_power, beta_2_power = (tf.pow(keras.ops.cast(b, dtype), step) for b in (optimizer.beta_1, optimizer.beta_2))
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[index].value.handle,
        v=optimizer._velocities[index].value.handle,
        beta1_power=beta_1_power,
        beta2_power=beta_2_power,
        lr=learning_rate,
        beta1=tf.constant(optimizer.beta_1, dtype),
        beta2=tf.constant(optimizer.beta_2, dtype),
        epsilon=tf.constant(optimizer.epsilon, dtype),
        grad=gradient,
    )
