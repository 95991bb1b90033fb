"""A model for expfw: `model=my_plugin`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import expfw

if TYPE_CHECKING:
    import keras


class MyPlugin(expfw.Model):
    """Dense layers with dropout, for classification."""

    @dataclass
    class Config:
        layers: int = expfw.option(2, help="number of hidden layers", at_least=0)
        units: int = expfw.option(64, help="width of each hidden layer", at_least=1)
        activation: Literal["relu", "gelu", "tanh"] = expfw.option("relu", help="activation of the hidden layers")
        dropout: float = expfw.option(0.1, help="fraction of the units to drop", at_least=0, less_than=1)
        optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer("adam", 0.001), help="optimizer of the weights")

    def build(self, data: expfw.DataSpec) -> keras.Model:
        import keras  # here, so that expfw can list plugins without it

        options = self.config
        if not isinstance(data.classes, int):
            raise expfw.ConfigError(f"model={self.name} needs classes, but the dataset has none; choose another one")
        x = inputs = keras.layers.Input(data.single_input(self.name))
        x = keras.layers.Flatten()(x)
        for _ in range(options.layers):
            x = keras.layers.Dense(options.units, options.activation)(x)
            x = keras.layers.Dropout(options.dropout)(x)
        outputs = keras.layers.Dense(data.classes, "softmax")(x)
        model = keras.Model(inputs, outputs)
        optimizer = keras.optimizers.get(options.optimizer.keras())
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model
