"""Predicted classes: confusion counts and mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw

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


def find_mistakes(split: expfw.Split, classes: int, predict: Callable[[Any], Any]) -> list[Mistake]:
    """Returns the misclassified samples among the first 10,000, largest margin first.

    Args:
        split: samples and their classes.
        classes: number of classes.
        predict: function from preprocessed samples to scores, `(n, classes)`; with another shape, the result is empty.
    """
    mistakes: list[Mistake] = []
    chunk_size = max(1, _CHUNK_BYTES // max(1, 4 * math.prod(split.x.shape[1:])))
    for begin in range(0, min(len(split), MAX_SAMPLES), chunk_size):
        chunk = split.take(slice(begin, min(begin + chunk_size, MAX_SAMPLES))).in_memory()
        outputs = np.asarray(predict(chunk.x), np.float32)
        if outputs.shape != (len(chunk), classes):
            return []
        predicted, rows = outputs.argmax(axis=1), np.arange(len(chunk))
        margins = outputs[rows, predicted] - outputs[rows, chunk.y]
        mistakes += [
            Mistake(begin + int(row), int(chunk.y[row]), int(predicted[row]), float(margins[row]))
            for row in np.flatnonzero(predicted != chunk.y)
        ]
    return sorted(mistakes, key=lambda mistake: (-mistake.margin, mistake.number))


def count_confusion(run: expfw.Run, model: Any, data: expfw.Splits, samples: int) -> tuple[str, np.ndarray] | None:
    """Counts the predicted classes of the samples of each class.

    Uses the test data, or the last split that the dataset has: validation or training data.

    Args:
        run: run in progress.
        model: trained model.
        data: dataset of the run.
        samples: largest number of samples to evaluate.

    Returns:
        The name of the split and the counts, `(classes, classes)`: true classes in rows, predicted classes in columns.
        None if the data has no single target with classes, or the model does not return a score for each class.
    """
    classes = data.spec.classes
    if not isinstance(classes, int):
        return None
    name, split = list(data.get_splits().items())[-1]
    split = split.take(slice(samples)).in_memory()
    output = run.hook.expfw_predict(model=model, x=split.x)
    if output.ndim != 2 or output.shape[1] != classes:
        return None
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (split.y, output.argmax(axis=1)), 1)
    return name, counts


def get_class_names(spec: expfw.DataSpec) -> tuple[str, ...]:
    """Returns the names of the classes, or their numbers if they have no names."""
    return spec.class_names or tuple(map(str, range(spec.classes)))
