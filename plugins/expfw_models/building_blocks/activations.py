"""Activation functions by name: those of Keras, and some for teaching that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError


def unit_step(x: tf.Tensor) -> tf.Tensor:
    """0 below zero, 1/2 at zero, 1 above. The gradient is zero, so layers before this activation do not learn."""
    return (tf.sign(x) + 1) / 2


def piecewise_linear(x: tf.Tensor) -> tf.Tensor:
    """0 up to -1/2, 1 from 1/2, and x + 1/2 between."""
    return tf.clip_by_value(x + 0.5, 0.0, 1.0)


EXTRA_ACTIVATIONS = {
    "logistic": keras.activations.sigmoid,
    "unit_step": unit_step,
    "sign": tf.sign,
    "piecewise_linear": piecewise_linear,
}
ACTIVATION_NAMES = (*EXTRA_ACTIVATIONS, "softmax", "tanh", "relu", "leaky_relu", "elu", "linear")


def get_activation(name: str) -> Any:
    """Returns the activation function `name`, the value of the option `model.activation`."""
    probe = tf.ones((2, 4))
    try:
        function = EXTRA_ACTIVATIONS[name] if name in EXTRA_ACTIVATIONS else keras.activations.get(name)
        if function(probe).shape == probe.shape:
            return function
        cause = None
    except Exception as error:  # Keras, or a function that is not an activation, can raise any exception
        cause = error
    raise ConfigError(
        f"model.activation: unknown activation {name!r}; expected one of {', '.join(sorted(ACTIVATION_NAMES))}, or "
        "another Keras activation that keeps the shape of its input"
    ) from cause
