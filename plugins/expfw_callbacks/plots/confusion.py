"""Confusion counts of classes."""

from __future__ import annotations

from typing import Any

import numpy as np

import expfw


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
