"""A multi-layer perceptron in low-level TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw
from expfw_models.building_blocks.network_options import get_class_count, shared_option

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
        activation: str = shared_option("activation", "tanh")
        initializer: str = shared_option("initializer", "glorot_uniform")
        l2: float = shared_option("l2", 0.0)
        optimizer: expfw.Optimizer = shared_option("optimizer", expfw.Optimizer("sgd", 0.001))

    def build(self, data: expfw.DataSpec) -> tf.Module:
        import itertools
        import math

        from expfw_models.building_blocks.activations import get_activation
        from expfw_models.building_blocks.initializers import make_initializer, make_optimizer
        from expfw_models.building_blocks.low_level import DenseClassifier

        options, inputs = self.config, math.prod(data.single_input(self.name))
        widths = [inputs, *[options.units] * options.layers, get_class_count(data, self.name)]
        activation = get_activation(options.activation)
        weights = [make_initializer(options.initializer)(shape, "float32") for shape in itertools.pairwise(widths)]
        return DenseClassifier(make_optimizer(options.optimizer), weights, activation, options.l2)
