"""Options that several networks share, and their requirements on the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import expfw

_ACTIVATIONS = ("tanh", "relu", "elu", "logistic", "softmax", "leaky_relu", "linear")


@dataclasses.dataclass
class NetworkOptions:
    """Options of the layers; each network has its own defaults."""

    activation: str = expfw.option(
        "relu", help="activation of the hidden layers: tanh, relu, elu, logistic, ...", usual=_ACTIVATIONS
    )
    initializer: str = expfw.option("glorot_uniform", help="Keras initializer of the weights")
    deviation: float = expfw.option(
        0.05,
        help="standard deviation of the weights; only for initializer=truncated_normal or random_normal",
        more_than=0,
        less_than=math.inf,
    )
    bias: float = expfw.option(0.0, help="initial biases", less_than=math.inf, more_than=-math.inf)
    dropout: float = expfw.option(
        0.0, help="fraction of the outputs of hidden dense layers to drop in training", at_least=0, less_than=1
    )
    batch_norm: bool = expfw.option(False, help="batch normalisation before each activation, over all replicas")
    l2: float = expfw.option(
        0.0,
        help="penalty in the loss: this factor times the sum of the squared weights",
        at_least=0,
        less_than=math.inf,
    )
    optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer(), help="optimizer that updates the weights")


def shared_option(name: str, default: Any) -> Any:
    """Returns the option `name` of `NetworkOptions` with another default."""
    return dataclasses.field(default=default, metadata=NetworkOptions.__dataclass_fields__[name].metadata)


def get_class_count(data: expfw.DataSpec, model: str) -> int:
    """Returns the number of classes; rejects other data."""
    if isinstance(data.classes, Mapping):
        targets = ", ".join(data.targets())
        raise expfw.ConfigError(f"model={model} takes one target, but the dataset has several: {targets}")
    if not isinstance(data.classes, int):
        raise expfw.ConfigError(f"model={model} needs classes, but the dataset has regression targets (try model=ols)")
    if data.classes < 2:
        raise expfw.ConfigError(f"model={model} needs two classes or more, but the dataset has one")
    return data.classes


def get_image_shape(data: expfw.DataSpec, model: str) -> tuple[int, ...]:
    """Returns the shape of an image (height, width, channels); rejects other samples."""
    shape = data.single_input(model)
    if len(shape) != 3:
        raise expfw.ConfigError(
            f"model={model} takes images (height, width, channels); the samples have shape {shape} "
            "(try model=mlp_keras)"
        )
    return shape
