"""Ordinary least squares by gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Ols(expfw.Model):
    """A linear model in low-level TensorFlow: weight and bias from zero, mean squared error; for values.

    The defaults are NTHU EE3700's and the chapter-13 notebook's: gradient descent at rate 0.01.
    """

    @dataclass
    class Config:
        optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer("sgd", 0.01), help="how weights are updated")

    def build(self, data: expfw.DataSpec) -> tf.Module:
        import math

        import tensorflow as tf

        from expfw_models import choices
        from expfw_models.low_level import LowLevelModel

        if data.classes is not None:
            raise expfw.ConfigError("model=ols fits values; these data have classes (try model=mlp_keras)")
        inputs, outputs = math.prod(data.single_input(self.name)), math.prod(data.output_shape)

        class Linear(LowLevelModel):
            def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
                super().__init__(optimizer)
                self.weight = tf.Variable(tf.zeros((inputs, outputs)), name="weight")
                self.bias = tf.Variable(tf.zeros((outputs,)), name="bias")

            def __call__(self, x: tf.Tensor) -> tf.Tensor:
                fitted = tf.reshape(x, (-1, inputs)) @ self.weight + self.bias
                return tf.reshape(fitted, (-1, *data.output_shape))

            def metrics_of(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
                return {"loss": tf.reduce_mean(tf.square(y - output))}

        return Linear(choices.optimizer(self.config.optimizer))
