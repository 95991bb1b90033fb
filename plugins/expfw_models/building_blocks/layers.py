"""Layers of Keras networks, created from the options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from expfw_models.building_blocks import activations, initializers
from expfw_models.building_blocks.network_options import NetworkOptions


class LayerFactory:
    """Creates groups of layers from the options, and compiles models."""

    def __init__(self, options: NetworkOptions) -> None:
        self.options = options
        self.activation = activations.get_activation(options.activation)
        self.regularizer = keras.regularizers.L2(options.l2) if options.l2 else None

    def make_dense(self, units: int) -> list[keras.layers.Layer]:
        """Creates a hidden dense layer with its normalisation, activation and dropout."""
        dropout = [keras.layers.Dropout(self.options.dropout)] if self.options.dropout else []
        return [*self._make_activated(keras.layers.Dense, units, **self._make_weight_options()), *dropout]

    def make_convolution(self, filters: int, kernel: int, **options: Any) -> list[keras.layers.Layer]:
        """Creates a convolution with its normalisation and activation; the default padding is "same"."""
        options = {"padding": "same", **options, **self._make_weight_options(rank=4)}
        return self._make_activated(keras.layers.Conv2D, filters, kernel, **options)

    def make_output(self, classes: int) -> list[keras.layers.Layer]:
        """Creates the output layers, class probabilities; their precision is never 16 bits."""
        probabilities = keras.layers.Activation("softmax", dtype=keras.config.floatx())
        return [keras.layers.Dense(classes, **self._make_weight_options()), probabilities]

    def compile_model(self, model: keras.Model) -> keras.Model:
        """Compiles the model with the optimizer of the options, cross-entropy and accuracy."""
        optimizer = initializers.make_optimizer(self.options.optimizer)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def make_sequential(self, shape: Sequence[int], layers: Sequence[keras.layers.Layer]) -> keras.Model:
        """Creates a compiled sequential model."""
        return self.compile_model(keras.Sequential([keras.layers.Input(shape), *layers]))

    def _make_activated(self, layer_class: Any, *sizes: int, **options: Any) -> list[keras.layers.Layer]:
        if not self.options.batch_norm:
            return [layer_class(*sizes, activation=self.activation, **options)]
        norm = keras.layers.BatchNormalization(synchronized=True)
        return [layer_class(*sizes, **options), norm, keras.layers.Activation(self.activation)]

    def _make_weight_options(self, rank: int = 2) -> dict[str, Any]:
        return {
            "kernel_initializer": initializers.make_initializer(self.options.initializer, self.options.deviation, rank),
            "bias_initializer": keras.initializers.Constant(self.options.bias),
            "kernel_regularizer": self.regularizer,
        }


class LocalResponse(keras.layers.Layer):
    """Local response normalisation over channels, with AlexNet's constants: k 2, n 5, alpha 1e-4, beta 0.75."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps images `(n, height, width, channels)` to the same shape; TensorFlow computes this in 32 bits only."""
        normalized = tf.nn.local_response_normalization(tf.cast(x, tf.float32), 2, bias=2.0, alpha=1e-4, beta=0.75)
        return tf.cast(normalized, x.dtype)

    def in_keras_layers(self) -> keras.Model:
        """Returns the same computation in Keras layers, for files that are loaded without expfw."""
        inputs = keras.Input(self.input.shape[1:], dtype=self.compute_dtype)
        x = keras.ops.cast(inputs, "float32")
        channels = np.arange(x.shape[-1])
        neighbours = keras.layers.Dense(len(channels), use_bias=False, trainable=False, dtype="float32")
        squares = keras.layers.Rescaling(1e-4, 2.0, dtype="float32")(neighbours(keras.ops.square(x)))
        neighbours.set_weights([np.abs(np.subtract.outer(channels, channels)) <= 2])
        return keras.Model(inputs, keras.ops.cast(x * keras.ops.power(squares, -0.75), self.compute_dtype))
