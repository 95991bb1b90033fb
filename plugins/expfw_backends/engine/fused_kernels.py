"""The most common Keras optimizers and metric with fewer TensorFlow operations.

The formulas are those of Keras 3: `keras.optimizers.SGD`, `Adam`, `AdamW`, `keras.metrics.SparseCategoricalAccuracy`.
The accuracy is equal to that of Keras. The updated weights differ from those of Keras by rounding at most; Keras rounds
constants to 32 bits, for example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


@contextmanager
def fused_update(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within the context, `update_step` of a supported optimizer is one operation; for variables without a strategy."""
    step = _FUSED_STEPS.get(type(optimizer))
    if step is None or getattr(optimizer, "amsgrad", False):
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


def fuse_accuracy(metric: keras.metrics.Metric) -> None:
    """Changes a `SparseCategoricalAccuracy` so that it does not search for negative zeros; a softmax has none."""
    if type(metric) is keras.metrics.SparseCategoricalAccuracy:
        metric._fn = _compute_accuracy  # Keras has no public attribute for it; only the engine uses this metric


def _compute_accuracy(y_true: Any, y_pred: Any) -> tf.Tensor:
    is_softmax = getattr(getattr(y_pred, "op", None), "type", None) == "Softmax"
    if (
        not is_softmax
        or y_pred.dtype not in (tf.float32, tf.float64)  # other types do not contain all class numbers
        or y_true.dtype not in (tf.uint8, tf.int8, tf.uint16, tf.int16, tf.int32, tf.int64)
        or y_true.shape.rank is None
        or y_true.shape.rank + 1 != y_pred.shape.rank
    ):
        return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)
    labels = y_true if y_true.dtype in (tf.int32, tf.int64) else tf.cast(y_true, tf.int32)
    is_correct = tf.equal(labels, tf.argmax(y_pred, axis=-1, output_type=labels.dtype))
    return tf.cast(is_correct, keras.config.floatx())


def _apply_sgd(optimizer: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
    if optimizer.momentum == 0:
        tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=learning_rate, delta=gradient)
        return
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=_get_slot_handle(optimizer, optimizer.momentums, variable),
        lr=learning_rate,
        grad=gradient,
        momentum=tf.constant(optimizer.momentum, variable.dtype),
        use_nesterov=optimizer.nesterov,
    )


def _apply_adam(optimizer: Any, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
    dtype = variable.dtype  # the state of Keras' Adam is in private attributes only
    beta_1, beta_2 = tf.constant(optimizer.beta_1, dtype), tf.constant(optimizer.beta_2, dtype)
    step = tf.cast(optimizer.iterations + 1, dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=_get_slot_handle(optimizer, optimizer._momentums, variable),
        v=_get_slot_handle(optimizer, optimizer._velocities, variable),
        beta1_power=tf.pow(beta_1, step),
        beta2_power=tf.pow(beta_2, step),
        lr=learning_rate,
        beta1=beta_1,
        beta2=beta_2,
        epsilon=tf.constant(optimizer.epsilon, dtype),
        grad=gradient,
    )


def _get_slot_handle(optimizer: Any, variables: list[Any], variable: tf.Variable) -> tf.Tensor:
    """Returns the handle of the optimizer state of a variable; Keras has no public function for its index."""
    return variables[optimizer._get_variable_index(variable)].value.handle


# Functions of the optimizer, a gradient, its variable and the learning rate; all have the type of the variable.
_FUSED_STEPS: dict[type, Callable[[Any, tf.Tensor, tf.Variable, tf.Tensor], None]] = {
    keras.optimizers.SGD: _apply_sgd,
    keras.optimizers.Adam: _apply_adam,
    keras.optimizers.AdamW: _apply_adam,
}
