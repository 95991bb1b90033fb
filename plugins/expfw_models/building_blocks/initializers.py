"""Initializers and optimizers by name, with one-line errors."""

from __future__ import annotations

import difflib
from typing import Any

import keras

from expfw import ConfigError, Optimizer

_NAMES_WITH_DEVIATION = ("truncated_normal", "random_normal")


def make_initializer(name: str, deviation: float = 0.05, rank: int = 2) -> Any:
    """Creates the initializer `model.initializer=name`, with `model.deviation` if it has a standard deviation.

    The rank of the weights is 2 for dense layers and 4 for convolutions of images.
    """
    config = {"stddev": deviation} if name in _NAMES_WITH_DEVIATION else {}
    try:
        initializer = keras.initializers.get({"class_name": name, "config": config})
        initializer((2,) * rank)  # some initializers support matrices only
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"model.initializer is {name!r}, which Keras rejects; expected a name such as glorot_uniform or zeros "
            f"({str(error)[:160]})"
        ) from error
    return initializer


def make_optimizer(options: Optimizer) -> keras.optimizers.Optimizer:
    """Creates the optimizer of the options `model.optimizer.*`."""
    configuration = options.keras()
    try:
        return keras.optimizers.get(configuration)
    except (ValueError, TypeError) as error:
        classes = [value for value in vars(keras.optimizers).values() if isinstance(value, type)]
        names = {c.__name__.lower() for c in classes if issubclass(c, keras.optimizers.Optimizer)}
        names -= {"optimizer", "lossscaleoptimizer", "multioptimizer"}
        if options.name.lower() in names:
            raise ConfigError(
                f"model.optimizer is {options.name} with {configuration['config']}, which Keras rejects: "
                f"{str(error)[:160]}"
            ) from error
        close_matches = difflib.get_close_matches(options.name.lower(), names, n=1)
        suggestion = f" Did you mean {close_matches[0]!r}?" if close_matches else ""
        raise ConfigError(
            f"model.optimizer.name: unknown optimizer {options.name!r}.{suggestion} Available: "
            f"{', '.join(sorted(names))}"
        ) from error
