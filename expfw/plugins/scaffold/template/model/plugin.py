"""A model for expfw: `model=my_plugin`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import expfw

if TYPE_CHECKING:
    import keras


class MyPlugin(expfw.Model):
    """Dense layers with dropout between them, for classes."""

    @dataclass
    class Config:
        layers: int = expfw.option(2, help="number of hidden layers")
        units: int = expfw.option(64, help="width of each hidden layer")
        activation: Literal["relu", "gelu", "tanh"] = expfw.option("relu", help="activation of the hidden layers")
        dropout: float = expfw.option(0.1, help="share of the units that a training step leaves out")
        optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer("adam", 0.001), help="how weights are updated")

        def __post_init__(self) -> None:
            if self.layers < 0 or self.units < 1:
                raise ValueError(f"layers is {self.layers} and units {self.units}; expected at least 0 and 1")
            if not 0 <= self.dropout < 1:
                raise ValueError(f"dropout is {self.dropout}; expected 0 or more, and less than 1")

    def build(self, data: expfw.DataSpec) -> keras.Model:
        import keras  # here, so that expfw can list plugins without it

        options = self.config
        if not isinstance(data.classes, int):
            raise expfw.ConfigError(f"model={self.name} needs classes to tell apart; these data have none")
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
