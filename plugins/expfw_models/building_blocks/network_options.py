"""Options that the Keras networks have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

import expfw

ACTIVATIONS = ("tanh", "relu", "elu", "logistic", "softmax", "leaky_relu", "linear")


@dataclass
class NetworkOptions:
    """How layers are made, whatever the network; each network has defaults of its own."""

    activation: str = expfw.option(
        "relu", help="activation of the hidden layers: tanh, relu, elu, logistic, ...", usual=ACTIVATIONS
    )
    initializer: str = expfw.option("glorot_uniform", help="initial weights, a Keras initializer")
    deviation: float = expfw.option(
        0.05, help="standard deviation of initializer=truncated_normal or random_normal; others have their own"
    )
    bias: float = expfw.option(0.0, help="initial biases")
    dropout: float = expfw.option(0.0, help="share of the outputs of hidden dense layers dropped while training")
    batch_norm: bool = expfw.option(False, help="normalise before each activation, over the batch of all replicas")
    l2: float = expfw.option(0.0, help="penalty on the weights: so much times the sum of their squares, in the loss")
    optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer(), help="how weights are updated")

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 or more and below 1")
        if not 0 < self.deviation < math.inf or not 0 <= self.l2 < math.inf or not math.isfinite(self.bias):
            raise ValueError(
                f"deviation is {self.deviation}, l2 {self.l2} and bias {self.bias}; "
                "expected more than 0, at least 0, and a finite number"
            )
