"""Activation functions by name: those of Keras, and the teaching ones that Keras has not."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from expfw import ConfigError


def unit_step(x: tf.Tensor) -> tf.Tensor:
    """0 below zero, 1/2 at zero, 1 above. Its gradient is zero: what lies before it learns nothing."""
    return (tf.sign(x) + 1) / 2


def sign(x: tf.Tensor) -> tf.Tensor:
    """-1, 0 or 1. Its gradient is zero: what lies before it learns nothing."""
    return tf.sign(x)


def piecewise_linear(x: tf.Tensor) -> tf.Tensor:
    """0 up to -1/2, 1 from 1/2 on, and x + 1/2 between."""
    return tf.clip_by_value(x + 0.5, 0.0, 1.0)


EXTRA_ACTIVATIONS = {
    "logistic": keras.activations.sigmoid,
    "unit_step": unit_step,
    "sign": sign,
    "piecewise_linear": piecewise_linear,
}
ACTIVATION_NAMES = (*EXTRA_ACTIVATIONS, "softmax", "tanh", "relu", "leaky_relu", "elu", "linear")


def get_activation(name: str, key: str = "model.activation") -> Any:
    """The activation function of that name.

    Args:
        key: the option that gave the name, for the error.

    Raises:
        ConfigError: neither Keras nor expfw knows it, or it makes another shape of what it is given.
    """
    probe = tf.ones((2, 4))
    try:
        function = EXTRA_ACTIVATIONS[name] if name in EXTRA_ACTIVATIONS else keras.activations.get(name)
        shape = function(probe).shape
    except Exception as error:  # whatever Keras, or a function that is no activation, makes of it
        raise ConfigError(
            f"{key} is {name!r}, which Keras does not know; expected one of {', '.join(sorted(ACTIVATION_NAMES))}, "
            "or another activation of Keras"
        ) from error
    if shape != probe.shape:
        raise ConfigError(f"{key} is {name!r}, which changes the shape of its input; expected one that keeps it")
    return function
