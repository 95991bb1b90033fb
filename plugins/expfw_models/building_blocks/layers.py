"""The layers of Keras networks, made as the options say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from expfw_models.building_blocks import activations, initializers
from expfw_models.building_blocks.network_options import NetworkOptions


class Layers:
    """Makes layers, each time a list of those that belong together, and compiles what was made of them."""

    def __init__(self, options: NetworkOptions) -> None:
        self.options = options
        self.activation = activations.by_name(options.activation)
        self.regularizer = keras.regularizers.L2(options.l2) if options.l2 else None

    def dense(self, units: int) -> list[keras.layers.Layer]:
        """A hidden dense layer, its normalisation, activation and dropout."""
        dropout = [keras.layers.Dropout(self.options.dropout)] if self.options.dropout else []
        return [*self._activated(keras.layers.Dense, units, **self._initial()), *dropout]

    def convolution(self, filters: int, kernel: int, **options: Any) -> list[keras.layers.Layer]:
        """A convolution, its normalisation and activation.

        Args:
            kernel: height and width of the kernel, pixels.
            options: further ones of `keras.layers.Conv2D`; padding is "same" if not said otherwise.
        """
        options = {"padding": "same", **options, **self._initial(rank=4)}
        return self._activated(keras.layers.Conv2D, filters, kernel, **options)

    def output(self, classes: int) -> list[keras.layers.Layer]:
        """Class probabilities, never in 16 bits, whatever the rest computes in."""
        probabilities = keras.layers.Activation("softmax", dtype=keras.config.floatx())
        return [keras.layers.Dense(classes, **self._initial()), probabilities]

    def compiled(self, model: keras.Model) -> keras.Model:
        """The model with the optimizer of the options, cross-entropy and accuracy."""
        optimizer = initializers.optimizer(self.options.optimizer)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def sequential(self, shape: Sequence[int], layers: Sequence[keras.layers.Layer]) -> keras.Model:
        """One layer after the other, compiled."""
        return self.compiled(keras.Sequential([keras.layers.Input(shape), *layers]))

    def _activated(self, kind: Any, *sizes: int, **options: Any) -> list[keras.layers.Layer]:
        if not self.options.batch_norm:
            return [kind(*sizes, activation=self.activation, **options)]
        norm = keras.layers.BatchNormalization(synchronized=True)
        return [kind(*sizes, **options), norm, keras.layers.Activation(self.activation)]

    def _initial(self, rank: int = 2) -> dict[str, Any]:
        return {
            "kernel_initializer": initializers.initializer(self.options.initializer, self.options.deviation, rank),
            "bias_initializer": keras.initializers.Constant(self.options.bias),
            "kernel_regularizer": self.regularizer,
        }


class LocalResponse(keras.layers.Layer):
    """Local response normalisation over channels, with AlexNet's constants: k 2, n 5, alpha 1e-4, beta 0.75."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Images `(n, height, width, channels)` to the same shape; computed in 32 bits, as TensorFlow has no other."""
        in_32_bits = tf.nn.local_response_normalization(tf.cast(x, tf.float32), 2, bias=2.0, alpha=1e-4, beta=0.75)
        return tf.cast(in_32_bits, x.dtype)

    def in_keras_layers(self) -> keras.Model:
        """The same computation in layers of Keras alone, for files that are loaded without expfw."""
        inputs = keras.Input(self.input.shape[1:], dtype=self.compute_dtype)
        x = keras.ops.cast(inputs, "float32")
        channels = np.arange(x.shape[-1])
        neighbours = keras.layers.Dense(len(channels), use_bias=False, trainable=False, dtype="float32")
        squares = keras.layers.Rescaling(1e-4, 2.0, dtype="float32")(neighbours(keras.ops.square(x)))
        neighbours.set_weights([np.abs(np.subtract.outer(channels, channels)) <= 2])
        return keras.Model(inputs, keras.ops.cast(x * keras.ops.power(squares, -0.75), self.compute_dtype))
