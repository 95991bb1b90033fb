"""A multi-layer perceptron in low-level TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw
from expfw_models.building_blocks.network_options import ACTIVATIONS

if TYPE_CHECKING:
    import tensorflow as tf


class MlpLayers(expfw.Model):
    """Dense layers and a softmax cross-entropy from logits, in low-level TensorFlow; for classification.

    The defaults are NTHU EE3700's low-level network: 784-50-50-10, tanh, gradient descent with learning rate 0.001.
    """

    @dataclass
    class Config:
        units: int = expfw.option(50, help="width of each hidden layer", at_least=1)
        layers: int = expfw.option(2, help="number of hidden layers", at_least=0)
        activation: str = expfw.option(
            "tanh", help="activation of the hidden layers: tanh, relu, elu, logistic, ...", usual=ACTIVATIONS
        )
        initializer: str = expfw.option("glorot_uniform", help="Keras initializer of the weights")
        l2: float = expfw.option(
            0.0, help="penalty in the loss: this factor times the sum of the squared weights", at_least=0
        )
        optimizer: expfw.Optimizer = expfw.option(
            expfw.Optimizer("sgd", 0.001), help="optimizer that updates the weights"
        )

    def build(self, data: expfw.DataSpec) -> tf.Module:
        import itertools
        import math

        import keras
        import tensorflow as tf

        from expfw_models.building_blocks import activations, initializers
        from expfw_models.building_blocks.low_level import LowLevelModel, compute_class_metrics, compute_l2_penalty

        options, inputs = self.config, math.prod(data.single_input(self.name))
        widths = [inputs, *[options.units] * options.layers, initializers.get_class_count(data, self.name)]
        activation = activations.get_activation(options.activation)

        class Mlp(LowLevelModel):
            def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
                super().__init__(optimizer)
                self.weights, self.biases = [], []
                for layer, (input_width, output_width) in enumerate(itertools.pairwise(widths)):
                    initial_weights = initializers.make_initializer(options.initializer)(
                        (input_width, output_width), dtype="float32"
                    )
                    self.weights.append(tf.Variable(initial_weights, name=f"weight_{layer}"))
                    self.biases.append(tf.Variable(tf.zeros((output_width,)), name=f"bias_{layer}"))

            def __call__(self, x: tf.Tensor) -> tf.Tensor:
                h = tf.reshape(x, (-1, inputs))
                for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
                    h = activation(h @ weight + bias)
                return h @ self.weights[-1] + self.biases[-1]

            def compute_metrics(self, y: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
                metrics = compute_class_metrics(y, output)
                metrics["loss"] += compute_l2_penalty(self.weights, options.l2)
                return metrics

            def predict_step(self, x: tf.Tensor) -> tf.Tensor:
                return tf.nn.softmax(self(x))

        return Mlp(initializers.make_optimizer(options.optimizer))
