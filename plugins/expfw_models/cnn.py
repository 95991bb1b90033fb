"""A convolutional network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import expfw
from expfw_models.building_blocks.network_options import NetworkOptions

if TYPE_CHECKING:
    import keras


class Cnn(expfw.Model):
    """Convolutions with max pooling, dense layers and a softmax, in Keras (LeNet-style); for images.

    The defaults are the network of UChicago's lab 7, also in NTU's and Purdue's documents: 5x5 convolutions with 32 and
    64 filters, each followed by 2x2 pooling, a dense layer of 1,024, dropout 0.5, Adam 1e-4; initial weights from a
    truncated normal distribution of standard deviation 0.1, initial biases 0.1.
    """

    @dataclass
    class Config(NetworkOptions):
        filters: tuple[int, ...] = expfw.option((32, 64), help="filters of each convolution")
        kernel: int = expfw.option(5, help="height and width of the kernels, pixels")
        pool: int = expfw.option(2, help="pixels in each direction that pooling makes one of; 1 for no pooling")
        dense: tuple[int, ...] = expfw.option((1024,), help="width of each dense layer")
        initializer: str = expfw.option("truncated_normal", help="initial weights, a Keras initializer")
        deviation: float = expfw.option(
            0.1, help="standard deviation of initializer=truncated_normal or random_normal; others have their own"
        )
        bias: float = expfw.option(0.1, help="initial biases")
        dropout: float = expfw.option(0.5, help="share of the outputs of dense layers dropped while training")
        optimizer: expfw.Optimizer = expfw.option(expfw.Optimizer("adam", 1e-4), help="how weights are updated")

        def __post_init__(self) -> None:
            super().__post_init__()
            if min((*self.filters, *self.dense, self.kernel, self.pool)) < 1:
                raise ValueError(
                    f"filters is {list(self.filters)}, dense {list(self.dense)}, kernel {self.kernel}, pool "
                    f"{self.pool}; expected 1 or more of each"
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
                    f"stage {stage} of model.filters={list(options.filters)} has images of {smallest} pixels left, "
                    f"too few for model.pool={options.pool}; use fewer stages, or a smaller model.pool"
                )
            smallest = -(-smallest // options.pool)
