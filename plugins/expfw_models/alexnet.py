"""AlexNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import expfw
from expfw_models.building_blocks.network_options import NetworkOptions

if TYPE_CHECKING:
    import keras

POOL, POOL_STRIDE = 3, 2


class AlexNet(expfw.Model):
    """Five convolutions and three dense layers (Krizhevsky, Sutskever and Hinton 2012), in Keras; for images.

    With `groups=2`, 227x227x3 pixels and 1,000 classes it has the 60,965,224 parameters of the original.
    `model=alexnet_small` is a variant for images of 28 to 64 pixels.
    """

    @dataclass
    class Config(NetworkOptions):
        filters: tuple[int, ...] = expfw.option(
            (96, 256, 384, 384, 256), help="filters of the five convolutions", at_least=1
        )
        dense: tuple[int, ...] = expfw.option((4096, 4096), help="width of each hidden dense layer", at_least=1)
        kernels: tuple[int, ...] = expfw.option(
            (11, 5, 3, 3, 3), help="height and width of the kernels, in pixels", at_least=1
        )
        stride: int = expfw.option(4, help="stride of the first convolution, in pixels", at_least=1)
        groups: int = expfw.option(1, help="groups of convolutions 2, 4 and 5; 2 in the original", at_least=1)
        local_response: bool = expfw.option(
            True, help="local response normalisation after the first two convolutions; batch_norm replaces it"
        )
        dropout: float = expfw.option(
            0.5, help="fraction of the outputs of dense layers to drop in training", at_least=0, less_than=1
        )
        initializer: str = expfw.option("he_normal", help="Keras initializer of the weights")
        optimizer: expfw.Optimizer = expfw.option(
            expfw.Optimizer("sgd", 0.01, momentum=0.9, weight_decay=5e-4), help="optimizer that updates the weights"
        )

        def __post_init__(self) -> None:
            if len(self.filters) != 5 or len(self.kernels) != 5:
                raise ValueError(
                    f"filters is {list(self.filters)} and kernels {list(self.kernels)}; expected five of each"
                )
            if any(filters % self.groups for filters in self.filters):
                raise ValueError(
                    f"groups is {self.groups}; expected a number that divides all of filters={list(self.filters)}"
                )

    def build(self, data: expfw.DataSpec) -> keras.Model:
        import keras

        from expfw_models.building_blocks import initializers
        from expfw_models.building_blocks.layers import LayerFactory, LocalResponse

        classes, shape = initializers.get_class_count(data, self.name), initializers.get_image_shape(data, self.name)
        self._check_image_size(shape[:2])
        options, factory = self.config, LayerFactory(self.config)
        inputs = keras.Input(shape)
        x = inputs
        for number, (filters, kernel) in enumerate(zip(options.filters, options.kernels, strict=True)):
            if number == 0:
                x = _apply_layers(factory.make_convolution(filters, kernel, strides=options.stride, padding="valid"), x)
            else:
                x = self._convolve_in_groups(factory, x, filters, kernel, 1 if number == 2 else options.groups)
            if number < 2 and options.local_response and not options.batch_norm:
                x = LocalResponse()(x)
            if number in (0, 1, 4):
                x = keras.layers.MaxPooling2D(POOL, POOL_STRIDE)(x)
        x = keras.layers.Flatten()(x)
        for units in options.dense:
            x = _apply_layers(factory.make_dense(units), x)
        return factory.compile_model(keras.Model(inputs, _apply_layers(factory.make_output(classes), x)))

    def _convolve_in_groups(self, factory: Any, x: Any, filters: int, kernel: int, groups: int) -> Any:
        """Creates parallel convolutions, as on the two GPUs of the original; Keras' own `groups` is slow on a CPU."""
        import keras

        if groups == 1:
            return _apply_layers(factory.make_convolution(filters, kernel), x)
        width = x.shape[-1] // groups
        parts = [x[..., group * width : (group + 1) * width] for group in range(groups)]
        outputs = [_apply_layers(factory.make_convolution(filters // groups, kernel), part) for part in parts]
        return keras.layers.Concatenate()(outputs)

    def _check_image_size(self, sides: tuple[int, int]) -> None:
        """Rejects images that are too small for the convolutions and poolings."""
        options, remaining = self.config, min(sides)
        if options.kernels[0] > remaining:
            raise expfw.ConfigError(
                f"the first of model.kernels={list(options.kernels)} is larger than the images of "
                f"{sides[0]}x{sides[1]} pixels; expected {remaining} or less (model=alexnet_small has 5)"
            )
        remaining = (remaining - options.kernels[0]) // options.stride + 1
        for _ in range(3):
            if remaining < POOL:
                raise expfw.ConfigError(
                    f"images of {sides[0]}x{sides[1]} pixels are too small for model.stride={options.stride} and three "
                    f"poolings of {POOL}x{POOL}; model=alexnet_small takes images of 28 pixels or more"
                )
            remaining = (remaining - POOL) // POOL_STRIDE + 1


def _apply_layers(layers: list[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x
