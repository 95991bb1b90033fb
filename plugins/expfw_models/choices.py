"""Keras objects by the names that users give; a name or an argument that Keras does not know is the user's error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from expfw import ConfigError, Optimizer


def activation(name: str) -> Any:
    """The activation function `model.activation=name`."""
    return _known("model.activation", name, keras.activations.get)


def initializer(name: str) -> Any:
    """The initializer `model.initializer=name`."""
    return _known("model.initializer", name, keras.initializers.get)


def optimizer(options: Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that `model.optimizer.*` describe."""
    return _known("model.optimizer", options.keras(), keras.optimizers.get)


def _known(key: str, value: Any, get: Callable[[Any], Any]) -> Any:
    try:
        return get(value)
    except (ValueError, TypeError) as error:
        what = f"{value['class_name']} with {value['config']}" if isinstance(value, dict) else repr(value)
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"{key} is {what}, which Keras does not take: {reason}") from error
