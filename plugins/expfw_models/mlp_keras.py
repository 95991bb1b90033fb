"""A multi-layer perceptron in Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw
from expfw_models.building_blocks.network_options import NetworkOptions, get_class_count, shared_option

if TYPE_CHECKING:
    import keras


class MlpKeras(expfw.Model):
    """Dense layers of equal width and a softmax, in Keras; for classification.

    The defaults are the network of NTHU EE3700: 784-50-50-10, tanh, SGD with learning rate 0.001 and momentum 0.9.
    """

    @dataclass
    class Config(NetworkOptions):
        units: int = expfw.option(50, help="width of each hidden layer", at_least=1)
        layers: int = expfw.option(2, help="number of hidden layers", at_least=0)
        activation: str = shared_option("activation", "tanh")
        optimizer: expfw.Optimizer = shared_option("optimizer", expfw.Optimizer("sgd", 0.001, momentum=0.9))

    def build(self, data: expfw.DataSpec) -> keras.Model:
        import keras

        from expfw_models.building_blocks.layers import LayerFactory

        classes, shape = get_class_count(data, self.name), data.single_input(self.name)
        factory = LayerFactory(self.config)
        hidden = [layer for _ in range(self.config.layers) for layer in factory.make_dense(self.config.units)]
        flat = [keras.layers.Flatten()] if len(shape) > 1 else []
        return factory.make_sequential(shape, [*flat, *hidden, *factory.make_output(classes)])
