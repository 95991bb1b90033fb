"""Images of samples and of first-layer weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import expfw

MAX_IMAGES = 64


def is_image_shape(input_shape: Any) -> bool:
    """Returns whether a sample of this shape is an image: height, width, and 1 or 3 channels."""
    return isinstance(input_shape, (tuple, list)) and len(input_shape) == 3 and input_shape[2] in (1, 3)


def make_weight_images(variables: Mapping[str, Any], input_shape: Any) -> np.ndarray | None:
    """Returns the weights of the first layer as pictures, one for each output.

    Args:
        variables: trained variables by name, in the order of the model.
        input_shape: shape of a sample.

    Returns:
        Values, `(n, height, width, channels)` with 1 or 3 channels, 64 pictures at most. None if the samples are not
        images, or no variable has the shape of a first layer.
    """
    if not is_image_shape(input_shape):
        return None
    height, width, channels = input_shape
    for value in variables.values():
        array = np.asarray(value)
        if array.ndim == 4 and array.shape[2] == channels:  # kernels: height, width, channels, filters
            return np.moveaxis(array, -1, 0)[:MAX_IMAGES]
        if array.ndim == 2 and array.shape[0] == height * width * channels:
            return array.T.reshape(-1, height, width, channels)[:MAX_IMAGES]
    return None


def restore_images(samples: np.ndarray, preprocessing: expfw.AffineScaling) -> np.ndarray:
    """Reverts the preprocessing of images, `(n, height, width, channels)`, and scales all values to [0, 1]."""
    raw = preprocessing.inverse(samples)
    low, high = raw.min(), raw.max()
    scaled: np.ndarray = (raw - low) / ((high - low) or 1)
    return scaled
