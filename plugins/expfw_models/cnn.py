"""A convolutional network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw
from expfw_models.building_blocks.network_options import NetworkOptions

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
        initializer: str = expfw.option("truncated_normal", help="Keras initializer of the weights")
        deviation: float = expfw.option(
            0.1,
            help="standard deviation of the weights; only for initializer=truncated_normal or random_normal",
            more_than=0,
            less_than=math.inf,
        )
        bias: float = expfw.option(0.1, help="initial biases", more_than=-math.inf, less_than=math.inf)
        dropout: float = expfw.option(
            0.5, help="fraction of the outputs of dense layers to drop in training", at_least=0, less_than=1
        )
        optimizer: expfw.Optimizer = expfw.option(
            expfw.Optimizer("adam", 1e-4), help="optimizer that updates the weights"
        )

    def build(self, data: expfw.DataSpec) -> keras.Model:
        import keras

        from expfw_models.building_blocks import initializers
        from expfw_models.building_blocks.layers import LayerFactory

        classes, shape = initializers.get_class_count(data, self.name), initializers.get_image_shape(data, self.name)
        self._check_image_size(shape[:2])
        options, factory = self.config, LayerFactory(self.config)
        stack = []
        for filters in options.filters:
            stack += [
                *factory.make_convolution(filters, options.kernel),
                keras.layers.MaxPooling2D(options.pool, padding="same"),
            ]
        stack.append(keras.layers.Flatten())
        for units in options.dense:
            stack += factory.make_dense(units)
        return factory.make_sequential(shape, [*stack, *factory.make_output(classes)])

    def _check_image_size(self, sides: tuple[int, int]) -> None:
        options, smallest = self.config, min(sides)
        if options.kernel > smallest:
            raise expfw.ConfigError(
                f"model.kernel={options.kernel} is larger than the images of {sides[0]}x{sides[1]} pixels; "
                f"expected {smallest} or less"
            )
        for stage in range(1, len(options.filters) + 1):
            if smallest < options.pool:
                raise expfw.ConfigError(
                    f"at stage {stage} of model.filters={list(options.filters)} the images have a side of {smallest}, "
                    f"less than model.pool={options.pool}; use fewer stages, or a smaller model.pool"
                )
            smallest = -(-smallest // options.pool)
