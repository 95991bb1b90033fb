"""Predicted classes of samples, and samples and first-layer weights as images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import expfw

_CHUNK_BYTES = 2**28  # preprocessed samples in memory at a time
_MAX_IMAGES = 64


def predict_classes(
    run: expfw.Run, model: Any, data: expfw.Splits, samples: int
) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Predicts the classes of the test data, or of the last split that the dataset has: validation or training data.

    Returns:
        The name of the split; the classes of its first `samples` samples, `(n,)`; their scores, `(n, classes)`. None if
        the data has no single target with classes, or the model does not return a score for each class.
    """
    if not isinstance(data.spec.classes, int):
        return None
    name, split = list(data.get_splits().items())[-1]
    chunk_samples = max(1, _CHUNK_BYTES * len(split) // split.nbytes())
    chunks = []
    for begin in range(0, min(samples, len(split)), chunk_samples):
        x = split.take(slice(begin, min(begin + chunk_samples, samples))).x
        chunks.append(run.hook.expfw_predict(model=model, x=x))
    scores = np.concatenate(chunks)
    return (name, split.y[:samples], scores) if scores.shape[1:] == (data.spec.classes,) else None


def count_confusion(run: expfw.Run, model: Any, data: expfw.Splits, samples: int) -> tuple[str, np.ndarray] | None:
    """Returns the name of the split of `predict_classes`, and how many samples of each class it predicts as which.

    The counts are `(classes, classes)`: true classes in rows, predicted classes in columns.
    """
    if (predictions := predict_classes(run, model, data, samples)) is None:
        return None
    name, classes, scores = predictions
    counts = np.zeros((scores.shape[1], scores.shape[1]), int)
    np.add.at(counts, (classes, scores.argmax(axis=1)), 1)
    return name, counts


def find_mistakes(classes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the numbers of the misclassified samples: largest score of the predicted minus the true class first."""
    margins = scores.max(axis=1) - scores[np.arange(len(classes)), classes]
    mistakes = np.flatnonzero(scores.argmax(axis=1) != classes)
    return mistakes[np.argsort(-margins[mistakes], kind="stable")]


def get_class_names(spec: expfw.DataSpec) -> tuple[str, ...]:
    """Returns the names of the classes, or their numbers if they have no names."""
    return spec.class_names or tuple(map(str, range(spec.classes)))


def is_image_shape(input_shape: Any) -> bool:
    """Returns whether a sample of this shape is an image: height, width, and 1 or 3 channels."""
    return isinstance(input_shape, (tuple, list)) and len(input_shape) == 3 and input_shape[2] in (1, 3)


def make_weight_images(variables: Mapping[str, Any], input_shape: Any) -> np.ndarray | None:
    """Returns the weights of the first layer as images, one for each output.

    Args:
        variables: trained variables by name, in the order of the model.
        input_shape: shape of a sample.

    Returns:
        Images `(n, height, width, channels)` with 1 or 3 channels, 64 at most; 0.5 is a weight of 0, and the largest
        weight is 0 or 1. None if the samples are not images, or no variable has the shape of a first layer.
    """
    if not is_image_shape(input_shape):
        return None
    for array in map(np.asarray, variables.values()):
        if array.ndim == 4 and array.shape[2] == input_shape[2]:  # kernels: height, width, channels, filters
            weights = np.moveaxis(array, -1, 0)[:_MAX_IMAGES]
        elif array.ndim == 2 and len(array) == math.prod(input_shape):
            weights = array.T.reshape(-1, *input_shape)[:_MAX_IMAGES]
        else:
            continue
        return weights / (2 * np.abs(weights).max() or 1.0) + 0.5
    return None


def restore_images(samples: np.ndarray, preprocessing: expfw.AffineScaling) -> np.ndarray:
    """Reverts the preprocessing of images, `(n, height, width, channels)`, and scales all values to [0, 1]."""
    raw = preprocessing.inverse(samples)
    low, high = raw.min(), raw.max()
    scaled: np.ndarray = (raw - low) / ((high - low) or 1)
    return scaled
