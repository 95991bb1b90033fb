"""Image augmentation for any image dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw


class Augmentation(expfw.Callback):
    """Adds shifted copies of the training images, with any image dataset.

    Validation and test data are not changed. An epoch contains the images and their copies: with `copies=9`, it is ten
    times as long.
    """

    @dataclass
    class Config:
        copies: int = expfw.option(4, help="copies of each training image", at_least=1)
        shift: int = expfw.option(2, help="maximum shift of a copy in each direction, in pixels", at_least=0)
        mirror: bool = expfw.option(False, help="mirror half of the copies horizontally")

    @expfw.hookimpl(wrapper=True)
    def expfw_load_data(self, config: expfw.RunConfig) -> Generator[None, expfw.Splits, expfw.Splits]:
        from expfw_callbacks.augmenting.image_batches import AugmentedImages

        data = yield
        options, train, shape = self.config, data.train, data.spec.input_shape
        if isinstance(shape, Mapping) or len(shape) != 3:
            raise expfw.DataError(
                f"callback=augmentation: the samples have shape {shape}; expected images (height, width, channels)"
            )
        background = data.spec.preprocessing.offset
        x = AugmentedImages(train.x, options.copies, options.shift, options.mirror, config.seed, background)
        y, weight = (self._repeat_for_copies(part) for part in (train.y, train.weight))
        return dataclasses.replace(data, train=expfw.Split(x, y, weight))

    def _repeat_for_copies(self, part: Any) -> Any:
        """Repeats targets or weights: once for the images and once for each copy."""
        if part is None:
            return None
        if isinstance(part, Mapping):
            return {name: self._repeat_for_copies(array) for name, array in part.items()}
        return np.concatenate([part] * (self.config.copies + 1))
