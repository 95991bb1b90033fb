"""A callback around the data: training images with a square cut out of each copy.

expfw -p docs/authors/examples/cutout.py run model=cnn dataset=digits +callback=cutout callback.cutout.size=3
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

import expfw


class Cutout(expfw.Callback):
    """Adds copies of the training images, each with a square hidden at random (arXiv 1708.04552).

    The copies are made once, in memory, from the run's seed. Validation and test images stay as they are.
    """

    @dataclass
    class Config:
        copies: int = expfw.option(1, help="further copies of each training image")
        size: int = expfw.option(4, help="height and width of the square, pixels; less at the edges of the image")

        def __post_init__(self) -> None:
            if self.copies < 1 or self.size < 1:
                raise ValueError(f"copies is {self.copies} and size {self.size}; expected at least 1 of each")

    @expfw.hookimpl(wrapper=True)
    def expfw_load_data(self, config):
        data = yield  # here the dataset loads
        shape = data.spec.input_shape
        if not isinstance(shape, tuple) or len(shape) != 3:
            raise expfw.DataError(f"callback={self.name} takes images (height, width, channels); these have {shape}")
        images = data.train.in_memory()
        rows = np.tile(np.arange(len(images)), 1 + self.config.copies)
        train = images.take(rows)  # a copy of samples, targets and weights
        self._hide(train.x[len(images) :], np.random.default_rng(config.seed))
        return dataclasses.replace(data, train=train)

    def _hide(self, images, generator):
        """In place, `(n, height, width, channels)`: each loses a square whose middle is anywhere in it."""
        half = self.config.size / 2
        inside = []
        for pixels in images.shape[1:3]:
            middle = generator.integers(0, pixels, (len(images), 1))
            inside.append((np.arange(pixels) >= middle - half) & (np.arange(pixels) < middle + half))
        down, across = inside
        images[down[:, :, np.newaxis] & across[:, np.newaxis, :]] = images.mean()
