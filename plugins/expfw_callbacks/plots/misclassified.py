"""Images that a model takes for another class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw
from expfw_callbacks.plots.weight_images import is_image_shape

MAX_SAMPLES = 10_000  # that are looked at
_CHUNK_BYTES = 2**28  # of preprocessed samples at a time


@dataclass(frozen=True)
class Mistake:
    """A sample, by its number in its split, with its class, the class it was taken for, and by how much."""

    number: int
    true_class: int
    predicted_class: int
    margin: float


def can_find_mistakes(spec: expfw.DataSpec) -> bool:
    """Whether such data are images of 1 or 3 channels that belong to one class each."""
    return is_image_shape(spec.input_shape) and isinstance(spec.classes, int)


def find_mistakes(split: expfw.Split, classes: int, predict: Callable[[Any], Any]) -> list[Mistake]:
    """The misclassified ones among the first 10,000 samples, those first of which the model was most wrongly sure.

    Args:
        predict: preprocessed samples to what the model says, `(n, classes)`; anything else has no mistakes.
    """
    mistakes: list[Mistake] = []
    for begin, part in _iterate_chunks(split):
        outputs = np.asarray(predict(part.x), np.float32)
        if outputs.shape != (len(part), classes):
            return []
        predicted, rows = outputs.argmax(axis=1), np.arange(len(part))
        margins = outputs[rows, predicted] - outputs[rows, part.y]
        mistakes += [
            Mistake(begin + int(row), int(part.y[row]), int(predicted[row]), float(margins[row]))
            for row in np.flatnonzero(predicted != part.y)
        ]
    return sorted(mistakes, key=lambda mistake: (-mistake.margin, mistake.number))


def restore_images(samples: np.ndarray, preprocessing: expfw.AffineScaling) -> np.ndarray:
    """Preprocessed images as they were before, `(n, height, width, channels)`, with the values of all in [0, 1]."""
    raw = preprocessing.inverse(samples)
    low, high = raw.min(), raw.max()
    scaled: np.ndarray = (raw - low) / ((high - low) or 1)
    return scaled


def _iterate_chunks(split: expfw.Split) -> Iterator[tuple[int, expfw.Split]]:
    """The first samples in portions that memory can hold, each with the number of its first sample."""
    size = max(1, _CHUNK_BYTES // max(1, 4 * math.prod(split.x.shape[1:])))
    for begin in range(0, min(len(split), MAX_SAMPLES), size):
        yield begin, split.take(slice(begin, min(begin + size, MAX_SAMPLES))).in_memory()
