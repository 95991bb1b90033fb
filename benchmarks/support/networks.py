"""Keras networks and data of the benchmarks, without expfw, for the peers too."""

from __future__ import annotations

import gzip
from pathlib import Path

import keras
import numpy as np

SAMPLES = 54_000


def load_mnist(folder: Path, images: bool = False) -> dict[str, np.ndarray]:
    """Returns x, y, x_validation and y_validation (the last 6,000), scaled to mean 0 and standard deviation 1."""

    def read_values(name: str, offset: int) -> np.ndarray:
        path = folder / name
        raw = gzip.decompress((folder / f"{name}.gz").read_bytes()) if not path.is_file() else path.read_bytes()
        return np.frombuffer(raw, np.uint8, offset=offset)

    x = (read_values("train-images-idx3-ubyte", 16).reshape(-1, 784) / 255.0 - 0.5) * 2
    x = ((x - x.mean(0)) / x.std()).astype(np.float32)
    y = read_values("train-labels-idx1-ubyte", 8).astype(np.int32)
    if images:
        x = x.reshape(-1, 28, 28, 1)
    held_out = {"x_validation": x[SAMPLES:], "y_validation": y[SAMPLES:]}
    return {"x": x[:SAMPLES], "y": y[:SAMPLES], **held_out}


def build_mlp(metrics: tuple[str, ...] = ()) -> keras.Model:
    """Builds the network 784-50-50-10 with tanh and SGD 0.001, momentum 0.9."""
    keras.utils.set_random_seed(123)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.layers.Input((784,)), dense(50, "tanh"), dense(50, "tanh"), dense(10, "softmax")])
    optimizer = keras.optimizers.SGD(0.001, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=list(metrics), jit_compile=False)
    return model


def build_cnn(seed: int = 123) -> keras.Model:
    """Builds the CNN of UChicago lab 7.

    5x5 conv 32, pool 2, 5x5 conv 64, pool 2, dense 1024, dropout 0.5, dense 10; Adam 1e-4.
    """
    keras.utils.set_random_seed(seed)
    k = keras.layers
    initializers = {
        "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.1),
        "bias_initializer": keras.initializers.Constant(0.1),
    }
    model = keras.Sequential(
        [
            k.Input((28, 28, 1)),
            k.Conv2D(32, 5, padding="same", activation="relu", **initializers),
            k.MaxPooling2D(2),
            k.Conv2D(64, 5, padding="same", activation="relu", **initializers),
            k.MaxPooling2D(2),
            k.Flatten(),
            k.Dense(1024, "relu", **initializers),
            k.Dropout(0.5),
            k.Dense(10, **initializers),
            k.Activation("softmax", dtype="float32"),
        ]
    )
    optimizer = keras.optimizers.Adam(1e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model
