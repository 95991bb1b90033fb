"""What users choose by name, checked: a name, an argument or data that do not fit are the user's error."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import keras

from expfw import ConfigError, DataSpec, Optimizer

_WITH_DEVIATION = ("truncated_normal", "random_normal")


def classes(data: DataSpec, model: str) -> int:
    """How many classes there are to tell apart.

    Raises:
        ConfigError: the data have values, or several targets.
    """
    if not isinstance(data.classes, int):
        raise ConfigError(f"model={model} needs classes to tell apart; these data have values (try model=ols)")
    if data.classes < 2:
        raise ConfigError(f"model={model} needs two classes or more to tell apart; these data have one")
    return data.classes


def image(data: DataSpec, model: str) -> tuple[int, int, int]:
    """The shape of an image: height, width, channels.

    Raises:
        ConfigError: the samples are no images.
    """
    shape = data.single_input(model)
    if len(shape) != 3:
        raise ConfigError(
            f"model={model} takes images (height, width, channels); samples of these data have shape {shape} "
            "(try model=mlp_keras)"
        )
    return shape[0], shape[1], shape[2]


_EXAMPLES = {"model.initializer": "glorot_uniform, he_normal or zeros", "model.optimizer": "sgd, adam or rmsprop"}


def initializer(name: str, deviation: float = 0.05, rank: int = 2) -> Any:
    """A new initializer `model.initializer=name`, with `model.deviation` where it has one.

    Args:
        rank: dimensions of the weights that it is for: 2 for dense layers, 4 for convolutions of images.
    """
    config = {"stddev": deviation} if name in _WITH_DEVIATION else {}

    def made(value: dict[str, Any]) -> Any:
        initial = keras.initializers.get(value)
        initial((2,) * rank)  # some are for matrices only
        return initial

    return _known("model.initializer", {"class_name": name, "config": config}, made)


def optimizer(options: Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that `model.optimizer.*` describe."""
    return _known("model.optimizer", options.keras(), keras.optimizers.get)


def _known(key: str, value: dict[str, Any], get: Callable[[Any], Any]) -> Any:
    try:
        return get(value)
    except (ValueError, TypeError) as error:
        if get is keras.optimizers.get and (line := _unknown_optimizer(str(value["class_name"]))):
            raise ConfigError(line) from error
        what = f"{value['class_name']} with {value['config']}" if value["config"] else repr(value["class_name"])
        reason = " ".join(str(error).split())[:160]
        if reason.startswith("Could not interpret"):  # it repeats the value
            reason = f"expected a name such as {_EXAMPLES[key]}"
        raise ConfigError(f"{key} is {what}, which Keras does not take: {reason}") from error


def _unknown_optimizer(name: str) -> str | None:
    """What to say of one that Keras does not have; None where it has it."""
    base = keras.optimizers.Optimizer
    around_others = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)
    classes = [one for one in vars(keras.optimizers).values() if isinstance(one, type) and issubclass(one, base)]
    known = sorted({one.__name__.lower() for one in classes if one not in (base, *around_others)})
    if name.lower() in known:
        return None
    close = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f"model.optimizer.name is {name!r}, which Keras does not know.{meant} There are: {', '.join(known)}"
