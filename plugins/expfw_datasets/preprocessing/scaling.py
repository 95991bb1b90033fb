"""Scales raw pixels in two ways, learned on the training data and kept as an `AffineScaling`."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

import expfw

Scaling = Literal["unit", "standard"]
SplitBy = Literal["tail", "random"]
CHUNK_SAMPLES = 512  # samples; of small images so many fit into the caches of a processor


def learn_preprocessing(
    scaling: Scaling, samples: np.ndarray, rows: np.ndarray, max_value: float
) -> expfw.AffineScaling:
    """The preprocessing for such samples.

    Args:
        scaling: `unit` is pixel / largest. `standard` is the chapter-13 notebook's: pixel to [-1, 1], minus the mean of
            each pixel over the training data, divided by the one standard deviation of all of them.
        samples: raw samples, uint8 `(n, ...)`; read in portions, so that they may be larger than memory.
        rows: which of them are for training.
        max_value: the largest value a raw pixel can have.
    """
    if scaling == "unit":
        return expfw.AffineScaling(scale=1 / max_value)
    pixel_sums, square_sum = np.zeros(samples.shape[1:], np.int64), 0  # whole numbers: exact, whatever the portions
    for begin in range(0, len(rows), CHUNK_SAMPLES):
        chunk = samples[rows[begin : begin + CHUNK_SAMPLES]].astype(np.int64)
        pixel_sums += chunk.sum(axis=0)
        square_sum += int(np.square(chunk).sum())
    value_count = len(rows) * math.prod(samples.shape[1:])
    deviation = math.sqrt(max(0.0, square_sum / value_count - (int(pixel_sums.sum()) / value_count) ** 2))
    if deviation == 0:
        raise expfw.DataError(
            "all training values are equal: scaling=standard has nothing to divide by; use scaling=unit"
        )
    return expfw.AffineScaling(scale=1 / deviation, offset=(-(pixel_sums / len(rows)) / deviation).astype(np.float32))


def split_indices(
    count: int, validation: float, split_by: SplitBy, seed: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and validation samples.

    Args:
        count: how many there are to divide.
        validation: what goes to validation: a share below 1, or a number of samples.
        split_by: `tail` takes the last ones, `random` draws them.
        seed: of the drawing.
        limit: most samples for training; what is more is not used.

    Raises:
        DataError: nothing is left for training.
    """
    if count == 0:
        raise expfw.DataError("there are no training samples; expected at least one")
    validation_count = round(count * validation) if validation < 1 else int(validation)
    if validation_count >= count:
        raise expfw.DataError(
            f"dataset.validation={validation:g} leaves none of the {count} training samples to train on; hold out fewer"
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count) if split_by == "random" else np.arange(count)
    return order[: count - validation_count][:limit], order[count - validation_count :]
