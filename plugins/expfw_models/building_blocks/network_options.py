"""Common options of the Keras networks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import expfw

ACTIVATIONS = ("tanh", "relu", "elu", "logistic", "softmax", "leaky_relu", "linear")


@dataclass
class NetworkOptions:
    """Common options of the layers; each network has its own defaults."""

    activation: str = expfw.option(
        "relu", help="activation of the hidden layers: tanh, relu, elu, logistic, ...", usual=ACTIVATIONS
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
