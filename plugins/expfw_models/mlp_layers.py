"""A multi-layer perceptron in low-level TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw

if TYPE_CHECKING:
    import tensorflow as tf


class MlpLayers(expfw.Model):
    """Dense layers and a softmax cross-entropy from logits, written out with variables and products; for classes.

    The defaults are NTHU EE3700's low-level network: 784-50-50-10, tanh, plain gradient descent 0.001.
    """

    @dataclass
    class Config:
        units: int = expfw.option(50, help="width of each hidden layer")
        layers: int = expfw.option(2, help="number of hidden layers")
        activation: str = expfw.option("tanh", help="activation of the hidden layers: tanh, relu, elu, sigmoid, ...")
        optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer("sgd", 0.001), help="how weights are updated")

        def __post_init__(self) -> None:
            if self.units < 1 or self.layers < 0:
                raise ValueError(f"units is {self.units} and layers {self.layers}; expected at least 1 and 0")

    def build(self, data: expfw.DataSpec) -> tf.Module:
        import itertools
        import math

        import keras
        import tensorflow as tf

        from expfw_models import choices
        from expfw_models.low_level import LowLevelModel

        if not isinstance(data.classes, int):
            raise expfw.ConfigError(
                "model=mlp_layers needs classes to tell apart; these data have values (try model=ols)"
            )
        inputs = math.prod(data.single_input(self.name))
        widths = [inputs, *[self.config.units] * self.config.layers, data.classes]
        activation = choices.activation(self.config.activation)
        glorot = keras.initializers.GlorotUniform

        class Mlp(LowLevelModel):
            def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
                super().__init__(optimizer)
                self.weights, self.biases = [], []
                for layer, (before, after) in enumerate(itertools.pairwise(widths)):
                    initial = glorot()((before, after))
                    self.weights.append(tf.Variable(initial, name=f"weight_{layer}"))
                    self.biases.append(tf.Variable(tf.zeros((after,)), name=f"bias_{layer}"))

            def __call__(self, x: tf.Tensor) -> tf.Tensor:
                h = tf.reshape(x, (-1, inputs))
                for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
                    h = activation(h @ weight + bias)
                return h @ self.weights[-1] + self.biases[-1]

            def metrics_of(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=output)
                right = tf.equal(tf.argmax(output, axis=-1, output_type=y.dtype), y)
                return {"loss": tf.reduce_mean(losses), "accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}

            def predict_step(self, x: tf.Tensor) -> tf.Tensor:
                return tf.nn.softmax(self(x))

        return Mlp(choices.optimizer(self.config.optimizer))
