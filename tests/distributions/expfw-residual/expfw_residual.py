"""Third-party model plugin: dense layers with shortcut connections."""

from dataclasses import dataclass

import expfw


class Residual(expfw.Model):
    """Dense blocks with shortcut connections, for classification."""

    @dataclass
    class Config:
        units: int = expfw.option(32, help="width of every block")
        blocks: int = expfw.option(2, help="number of blocks")
        optimizer: expfw.Optimizer = expfw.option(
            expfw.Optimizer("adam", 0.01), help="optimizer that updates the weights"
        )

    def build(self, data):
        from keras import Model, layers

        x = inputs = layers.Input(data.input_shape)
        x = layers.Dense(self.config.units)(layers.Flatten()(x))
        for _ in range(self.config.blocks):
            x = layers.Add()([x, layers.Dense(self.config.units, "relu")(x)])
        model = Model(inputs, layers.Dense(data.classes, "softmax")(x))
        model.compile(self.config.optimizer.keras(), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model
