"""How often each class was taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np

import expfw


def count_confusion(run: expfw.Run, model: Any, data: expfw.Splits, samples: int) -> tuple[str, np.ndarray] | None:
    """Counts `(classes, classes)`, rows being the true ones, over the test data; validation or training data without.

    Args:
        samples: at most so many are looked at.

    Returns:
        The name of the split and the counts; None where the data have no single target with classes, or the model
        gives no score for each class.
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
    """What classes are called, by number where they have no names."""
    return spec.class_names or tuple(map(str, range(spec.classes)))
