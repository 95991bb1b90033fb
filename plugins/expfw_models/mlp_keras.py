"""A multi-layer perceptron in Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw

if TYPE_CHECKING:
    import keras


class MlpKeras(expfw.Model):
    """Dense layers of equal width and a softmax, in Keras; for classes.

    The defaults are the network of NTHU EE3700: 784-50-50-10, tanh, SGD 0.001 with momentum 0.9.
    """

    @dataclass
    class Config:
        units: int = expfw.option(50, help="width of each hidden layer")
        layers: int = expfw.option(2, help="number of hidden layers")
        activation: str = expfw.option("tanh", help="activation of the hidden layers: tanh, relu, elu, sigmoid, ...")
        initializer: str = expfw.option("glorot_uniform", help="initial weights, a Keras initializer")
        dropout: float = expfw.option(0.0, help="share of hidden outputs dropped while training")
        optimizer: expfw.Optimizer = expfw.option(
            expfw.Optimizer("sgd", 0.001, momentum=0.9), help="how weights are updated"
        )

        def __post_init__(self) -> None:
            if self.units < 1 or self.layers < 0:
                raise ValueError(f"units is {self.units} and layers {self.layers}; expected at least 1 and 0")
            if not 0 <= self.dropout < 1:
                raise ValueError(f"dropout is {self.dropout}; expected 0 or more and below 1")

    def build(self, data: expfw.DataSpec) -> keras.Model:
        import keras

        from expfw_models import choices

        if not isinstance(data.classes, int):
            raise expfw.ConfigError(
                "model=mlp_keras needs classes to tell apart; these data have values (try model=ols)"
            )
        options = self.config
        activation = choices.activation(options.activation)
        shape = data.single_input(self.name)
        layers = [keras.layers.Input(shape)]
        if len(shape) > 1:
            layers.append(keras.layers.Flatten())
        for _ in range(options.layers):
            initial = choices.initializer(options.initializer)
            layers.append(keras.layers.Dense(options.units, activation, kernel_initializer=initial))
            if options.dropout:
                layers.append(keras.layers.Dropout(options.dropout))
        layers.append(
            keras.layers.Dense(data.classes, "softmax", kernel_initializer=choices.initializer(options.initializer))
        )
        model = keras.Sequential(layers)
        model.compile(choices.optimizer(options.optimizer), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model
