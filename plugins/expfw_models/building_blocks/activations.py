"""Activation functions by name: those of Keras, and some for teaching that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError


def unit_step(x: tf.Tensor) -> tf.Tensor:
    """0 below zero, 1/2 at zero, 1 above. The gradient is zero, so layers before this activation do not learn."""
    return (tf.sign(x) + 1) / 2


def sign(x: tf.Tensor) -> tf.Tensor:
    """-1, 0 or 1. The gradient is zero, so layers before this activation do not learn."""
    return tf.sign(x)


def piecewise_linear(x: tf.Tensor) -> tf.Tensor:
    """0 up to -1/2, 1 from 1/2, and x + 1/2 between."""
    return tf.clip_by_value(x + 0.5, 0.0, 1.0)


EXTRA_ACTIVATIONS = {
    "logistic": keras.activations.sigmoid,
    "unit_step": unit_step,
    "sign": sign,
    "piecewise_linear": piecewise_linear,
}
ACTIVATION_NAMES = (*EXTRA_ACTIVATIONS, "softmax", "tanh", "relu", "leaky_relu", "elu", "linear")


def get_activation(name: str, key: str = "model.activation") -> Any:
    """Returns the activation function `name`.

    Args:
        name: name of the activation.
        key: option with the name, for the error message.

    Raises:
        ConfigError: if neither Keras nor expfw has this activation, or it changes the shape of its input.
    """
    probe = tf.ones((2, 4))
    try:
        function = EXTRA_ACTIVATIONS[name] if name in EXTRA_ACTIVATIONS else keras.activations.get(name)
        shape = function(probe).shape
    except Exception as error:  # Keras, or a function that is not an activation, can raise any exception
        raise ConfigError(
            f"{key}: unknown activation {name!r}; expected one of {', '.join(sorted(ACTIVATION_NAMES))}, "
            "or another Keras activation"
        ) from error
    if shape != probe.shape:
        raise ConfigError(
            f"{key} is {name!r}, which changes the shape of its input; expected an activation that keeps it"
        )
    return function
