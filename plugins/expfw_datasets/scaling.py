"""From raw pixels to what networks are fed: two ways of scaling, learned on the training data, kept as an Affine."""

from __future__ import annotations

from typing import Literal

import numpy as np

import expfw

Scaling = Literal["unit", "standard"]
SplitBy = Literal["tail", "random"]


def learned(scaling: Scaling, train: np.ndarray, largest: float) -> expfw.Affine:
    """The preprocessing for samples like `train`.

    Args:
        scaling: `unit` is pixel / largest. `standard` is the chapter-13 notebook's: pixel to [-1, 1], minus the mean of
            each pixel over the training data, divided by the one standard deviation of all of them.
        train: raw training samples, `(n, ...)`.
        largest: the largest value a raw pixel can have.
    """
    if scaling == "unit":
        return expfw.Affine(scale=1 / largest)
    mean = train.mean(axis=0, dtype=np.float64)
    deviation = train.astype(np.float32).std(dtype=np.float64)
    if deviation == 0:
        raise expfw.DataError(
            "all training values are equal: scaling=standard has nothing to divide by; use scaling=unit"
        )
    return expfw.Affine(scale=1 / deviation, offset=(-mean / deviation).astype(np.float32))


def split(count: int, validation: float, how: SplitBy, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and validation samples.

    Args:
        count: how many there are to divide.
        validation: the share that goes to validation.
        how: `tail` takes the last ones, `random` draws them.
        seed: of the drawing.
    """
    held_out = round(count * validation)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count) if how == "random" else np.arange(count)
    return order[: count - held_out], order[count - held_out :]
