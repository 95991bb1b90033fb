"""A convolutional network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw
from expfw_models.building_blocks.network_options import NetworkOptions, get_class_count, get_image_shape, shared_option

if TYPE_CHECKING:
    import keras


class Cnn(expfw.Model):
    """Convolutions with max pooling, dense layers and a softmax, in Keras (LeNet-style); for images.

    The defaults are the network of UChicago's lab 7, also in NTU's and Purdue's documents: 5x5 convolutions with 32 and
    64 filters, each followed by 2x2 pooling; a dense layer with 1,024 units; dropout 0.5; Adam with learning rate 1e-4;
    initial weights from a truncated normal distribution with standard deviation 0.1; initial biases 0.1.
    """

    @dataclass
    class Config(NetworkOptions):
        filters: tuple[int, ...] = expfw.option((32, 64), help="filters of each convolution", at_least=1)
        kernel: int = expfw.option(5, help="height and width of the kernels, in pixels", at_least=1)
        pool: int = expfw.option(
            2, help="height and width of the pooling windows, in pixels; 1 for no pooling", at_least=1
        )
        dense: tuple[int, ...] = expfw.option((1024,), help="width of each dense layer", at_least=1)
        initializer: str = shared_option("initializer", "truncated_normal")
        deviation: float = shared_option("deviation", 0.1)
        bias: float = shared_option("bias", 0.1)
        dropout: float = shared_option("dropout", 0.5)
        optimizer: expfw.Optimizer = shared_option("optimizer", expfw.Optimizer("adam", 1e-4))

    def build(self, data: expfw.DataSpec) -> keras.Model:
        import keras

        from expfw_models.building_blocks.layers import LayerFactory

        classes, shape = get_class_count(data, self.name), get_image_shape(data, self.name)
        options, factory = self.config, LayerFactory(self.config)
        last_side = -(-min(shape[:2]) // options.pool ** (len(options.filters) - 1))  # of the input of the last stage
        if options.kernel > min(shape[:2]) or options.pool > last_side:
            raise expfw.ConfigError(
                f"images of {shape[0]}x{shape[1]} pixels are too small for model.kernel={options.kernel}, "
                f"model.pool={options.pool} and the {len(options.filters)} stages of model.filters; use smaller "
                "values, or fewer stages"
            )
        layers = []
        for filters in options.filters:
            layers += factory.make_convolution(filters, options.kernel)
            layers.append(keras.layers.MaxPooling2D(options.pool, padding="same"))
        layers.append(keras.layers.Flatten())
        for units in options.dense:
            layers += factory.make_dense(units)
        return factory.make_sequential(shape, [*layers, *factory.make_output(classes)])
