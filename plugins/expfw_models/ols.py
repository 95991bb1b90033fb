"""Least squares by gradient descent, for a line or a polynomial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import expfw
from expfw_models.building_blocks.network_options import shared_option

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Ols(expfw.Model):
    """A model linear in its weights, in low-level TensorFlow: y = bias + sum over k of weight_k * x^k; for regression.

    The defaults are those of NTHU EE3700 and of the chapter-13 notebook: a line with initial weights 0, mean squared
    error, gradient descent with learning rate 0.01. With `degree` and `l2` the model is the regularised polynomial of
    UChicago's equations 1 to 6. With several inputs, the polynomial has the powers of each input, without products.
    """

    @dataclass
    class Config:
        degree: int = expfw.option(1, help="highest power of the inputs; 1 for a line", at_least=1)
        l2: float = shared_option("l2", 0.0)
        reduction: Literal["mean", "sum"] = expfw.option(
            "mean", help="the loss is the mean or the sum of the squared errors of a batch"
        )
        weight: float = expfw.option(0.0, help="initial weights")
        bias: float = expfw.option(0.0, help="initial biases")
        optimizer: expfw.Optimizer = shared_option("optimizer", expfw.Optimizer("sgd", 0.01))

    def build(self, data: expfw.DataSpec) -> tf.Module:
        import math

        import tensorflow as tf

        from expfw_models.building_blocks.initializers import make_optimizer
        from expfw_models.building_blocks.low_level import LowLevelModel

        if data.classes is not None:
            raise expfw.ConfigError("model=ols needs regression targets; the dataset has classes (try model=mlp_keras)")
        inputs, outputs = math.prod(data.single_input(self.name)), math.prod(data.output_shape)
        options = self.config

        class Polynomial(LowLevelModel):
            def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
                super().__init__(optimizer)
                shape = (inputs * options.degree, outputs)
                self.weight = tf.Variable(tf.fill(shape, options.weight), name="weight")
                self.bias = tf.Variable(tf.fill((outputs,), options.bias), name="bias")

            def __call__(self, x: tf.Tensor) -> tf.Tensor:
                x = tf.reshape(x, (-1, inputs))
                powers = tf.concat([x**power for power in range(1, options.degree + 1)], axis=1)
                return tf.reshape(powers @ self.weight + self.bias, (-1, *data.output_shape))

            def compute_metrics(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
                errors = tf.square(y - output)
                mean = tf.reduce_mean(errors)
                loss = mean if options.reduction == "mean" else tf.reduce_sum(errors)
                if options.l2:
                    loss += options.l2 * tf.reduce_sum(tf.square(self.weight))
                return {"loss": loss, "mean_squared_error": mean}

        return Polynomial(make_optimizer(options.optimizer))
