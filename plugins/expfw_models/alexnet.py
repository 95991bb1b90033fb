"""AlexNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import expfw
from expfw_models.building_blocks.network_options import NetworkOptions, get_class_count, get_image_shape, shared_option

if TYPE_CHECKING:
    import keras

    from expfw_models.building_blocks.layers import LayerFactory


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
        dropout: float = shared_option("dropout", 0.5)
        initializer: str = shared_option("initializer", "he_normal")
        optimizer: expfw.Optimizer = shared_option(
            "optimizer", expfw.Optimizer("sgd", 0.01, momentum=0.9, weight_decay=5e-4)
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

        from expfw_models.building_blocks.layers import LayerFactory

        classes, shape = get_class_count(data, self.name), get_image_shape(data, self.name)
        factory, inputs = LayerFactory(self.config), keras.Input(shape)
        try:
            x = keras.layers.Flatten()(self._convolve(factory, inputs))
        except ValueError as error:  # an operation would have no output
            raise expfw.ConfigError(
                f"images of {shape[0]}x{shape[1]} pixels are too small for model.stride={self.config.stride}, "
                f"model.kernels={list(self.config.kernels)} and three poolings ({error}); model=alexnet_small takes "
                "images of 28 pixels or more"
            ) from error
        for units in self.config.dense:
            x = _apply_layers(factory.make_dense(units), x)
        return factory.compile_model(keras.Model(inputs, _apply_layers(factory.make_output(classes), x)))

    def _convolve(self, factory: LayerFactory, x: Any) -> Any:
        import keras

        from expfw_models.building_blocks.layers import LocalResponse

        options = self.config
        for number, (filters, kernel) in enumerate(zip(options.filters, options.kernels, strict=True)):
            groups = options.groups if number in (1, 3, 4) else 1
            border = {"strides": options.stride, "padding": "valid"} if number == 0 else {}
            if groups == 1:
                x = _apply_layers(factory.make_convolution(filters, kernel, **border), x)
            else:  # parallel, as on the two GPUs of the original; Keras' own `groups` is slow on a CPU
                width = x.shape[-1] // groups
                parts = [x[..., group * width : (group + 1) * width] for group in range(groups)]
                parts = [_apply_layers(factory.make_convolution(filters // groups, kernel), part) for part in parts]
                x = keras.layers.Concatenate()(parts)
            if number < 2 and options.local_response and not options.batch_norm:
                x = LocalResponse()(x)
            if number in (0, 1, 4):
                x = keras.layers.MaxPooling2D(pool_size=3, strides=2)(x)
        return x


def _apply_layers(layers: list[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x
