"""A callback that wraps the data: adds copies of the training images with a hidden square.

expfw -p docs/authors/examples/cutout.py run model=cnn dataset=digits +callback=cutout callback.cutout.size=3
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

import expfw


class Cutout(expfw.Callback):
    """Adds copies of the training images, each with a square hidden at a random place (arXiv 1708.04552).

    The copies are created once, in memory, with the run's seed. Validation and test images do not change.
    """

    @dataclass
    class Config:
        copies: int = expfw.option(1, help="additional copies of each training image", at_least=1)
        size: int = expfw.option(
            4, help="height and width of the square in pixels; at the edges, a part of it", at_least=1
        )

    @expfw.hookimpl(wrapper=True)
    def expfw_load_data(self, config):
        data = yield  # here the dataset plugin loads
        shape = data.spec.input_shape
        if not isinstance(shape, tuple) or len(shape) != 3:
            raise expfw.DataError(f"callback={self.name} needs images (height, width, channels); these have {shape}")
        images = data.train.in_memory()
        rows = np.tile(np.arange(len(images)), 1 + self.config.copies)
        train = images.take(rows)  # a copy of samples, targets and weights
        self._hide(train.x[len(images) :], np.random.default_rng(config.seed))
        return dataclasses.replace(data, train=train)

    def _hide(self, images, generator):
        """Hides a square with a random centre in each of the images `(n, height, width, channels)`, in place."""
        half = self.config.size / 2
        inside = []
        for pixels in images.shape[1:3]:
            middle = generator.integers(0, pixels, (len(images), 1))
            inside.append((np.arange(pixels) >= middle - half) & (np.arange(pixels) < middle + half))
        down, across = inside
        images[down[:, :, np.newaxis] & across[:, np.newaxis, :]] = images.mean()
