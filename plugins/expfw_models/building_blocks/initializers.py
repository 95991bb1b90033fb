"""Initializers and optimizers by name, and checks of the data, with one-line errors."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import keras

from expfw import ConfigError, DataSpec, Optimizer

_NAMES_WITH_DEVIATION = ("truncated_normal", "random_normal")


def get_class_count(data: DataSpec, model: str) -> int:
    """Returns the number of classes.

    Raises:
        ConfigError: if the data has regression targets or several targets, or fewer than 2 classes.
    """
    if isinstance(data.classes, Mapping):
        raise ConfigError(f"model={model} takes one target, but the dataset has several: {', '.join(data.targets())}")
    if not isinstance(data.classes, int):
        raise ConfigError(f"model={model} needs classes, but the dataset has regression targets (try model=ols)")
    if data.classes < 2:
        raise ConfigError(f"model={model} needs two classes or more, but the dataset has one")
    return data.classes


def get_image_shape(data: DataSpec, model: str) -> tuple[int, int, int]:
    """Returns the shape of an image: height, width, channels.

    Raises:
        ConfigError: if the samples are not images.
    """
    shape = data.single_input(model)
    if len(shape) != 3:
        raise ConfigError(
            f"model={model} takes images (height, width, channels); the samples have shape {shape} "
            "(try model=mlp_keras)"
        )
    return shape[0], shape[1], shape[2]


_EXAMPLES = {"model.initializer": "glorot_uniform, he_normal or zeros", "model.optimizer": "sgd, adam or rmsprop"}


def make_initializer(name: str, deviation: float = 0.05, rank: int = 2) -> Any:
    """Creates the initializer `model.initializer=name`, with `model.deviation` if it has a standard deviation.

    Args:
        name: name of a Keras initializer.
        deviation: standard deviation, for `truncated_normal` and `random_normal`.
        rank: dimensions of the weights: 2 for dense layers, 4 for convolutions of images.

    Raises:
        ConfigError: if Keras rejects the initializer, or it does not support weights of this rank.
    """
    config = {"stddev": deviation} if name in _NAMES_WITH_DEVIATION else {}

    def create_and_try(value: dict[str, Any]) -> Any:
        initial_weights = keras.initializers.get(value)
        initial_weights((2,) * rank)  # some initializers support matrices only
        return initial_weights

    return _get_from_keras("model.initializer", {"class_name": name, "config": config}, create_and_try)


def make_optimizer(options: Optimizer) -> keras.optimizers.Optimizer:
    """Creates the optimizer of the options `model.optimizer.*`.

    Raises:
        ConfigError: if Keras rejects the optimizer.
    """
    return _get_from_keras("model.optimizer", options.keras(), keras.optimizers.get)


def _get_from_keras(key: str, value: dict[str, Any], get: Callable[[Any], Any]) -> Any:
    try:
        return get(value)
    except (ValueError, TypeError) as error:
        if get is keras.optimizers.get and (message := _describe_unknown_optimizer(str(value["class_name"]))):
            raise ConfigError(message) from error
        description = f"{value['class_name']} with {value['config']}" if value["config"] else repr(value["class_name"])
        reason = " ".join(str(error).split())[:160]
        if reason.startswith("Could not interpret"):  # Keras only repeats the value
            reason = f"expected a name such as {_EXAMPLES[key]}"
        raise ConfigError(f"{key} is {description}, which Keras rejects: {reason}") from error


def _describe_unknown_optimizer(name: str) -> str | None:
    """Returns the error message for an unknown optimizer; None if Keras has the optimizer."""
    base = keras.optimizers.Optimizer
    wrapper_classes = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
    optimizer_classes = [
        candidate
        for candidate in vars(keras.optimizers).values()
        if isinstance(candidate, type) and issubclass(candidate, base)
    ]
    known_names = sorted(
        {candidate.__name__.lower() for candidate in optimizer_classes if candidate not in (base, *wrapper_classes)}
    )
    if name.lower() in known_names:
        return None
    close_matches = difflib.get_close_matches(name.lower(), known_names, n=1)
    suggestion = f" Did you mean {close_matches[0]!r}?" if close_matches else ""
    return f"model.optimizer.name: unknown optimizer {name!r}.{suggestion} Available: {', '.join(known_names)}"
