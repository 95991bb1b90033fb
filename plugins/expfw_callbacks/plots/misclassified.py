"""Images that a model misclassifies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw
from expfw_callbacks.plots.weight_images import is_image_shape

MAX_SAMPLES = 10_000  # most samples to evaluate
_CHUNK_BYTES = 2**28  # preprocessed samples in memory at a time


@dataclass(frozen=True)
class Mistake:
    """A misclassified sample.

    Attributes:
        number: number of the sample in its split, from 0.
        true_class: class of the sample.
        predicted_class: class that the model predicts.
        margin: score of the predicted class minus score of the true class.
    """

    number: int
    true_class: int
    predicted_class: int
    margin: float


def can_find_mistakes(spec: expfw.DataSpec) -> bool:
    """Returns whether the data consists of images of 1 or 3 channels with one class each."""
    return is_image_shape(spec.input_shape) and isinstance(spec.classes, int)


def find_mistakes(split: expfw.Split, classes: int, predict: Callable[[Any], Any]) -> list[Mistake]:
    """Returns the misclassified samples among the first 10,000, largest margin first.

    Args:
        split: samples and their classes.
        classes: number of classes.
        predict: function from preprocessed samples to scores, `(n, classes)`; with another shape, the result is empty.
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
    """Reverts the preprocessing of images, `(n, height, width, channels)`, and scales all values to [0, 1]."""
    raw = preprocessing.inverse(samples)
    low, high = raw.min(), raw.max()
    scaled: np.ndarray = (raw - low) / ((high - low) or 1)
    return scaled


def _iterate_chunks(split: expfw.Split) -> Iterator[tuple[int, expfw.Split]]:
    """Yields the first samples in chunks that fit in memory, each with the number of its first sample."""
    size = max(1, _CHUNK_BYTES // max(1, 4 * math.prod(split.x.shape[1:])))
    for begin in range(0, min(len(split), MAX_SAMPLES), size):
        yield begin, split.take(slice(begin, min(begin + size, MAX_SAMPLES))).in_memory()
