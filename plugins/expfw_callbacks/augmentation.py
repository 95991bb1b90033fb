"""Augmentation of images, around whatever dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw


class Augmentation(expfw.Callback):
    """Adds moved copies of the training images, whatever the dataset; validation and test data stay as they are.

    An epoch then passes over the images and their copies: `copies=9` makes it ten times as long.
    """

    @dataclass
    class Config:
        copies: int = expfw.option(4, help="further copies of each training image")
        shift: int = expfw.option(2, help="pixels, at most, that a copy is moved in each direction")
        mirror: bool = expfw.option(False, help="mirror half of the copies, left to right")

        def __post_init__(self) -> None:
            if self.copies < 1 or self.shift < 0:
                raise ValueError(f"copies is {self.copies} and shift {self.shift}; expected at least 1 and 0")

    @expfw.hookimpl(wrapper=True)
    def expfw_load_data(self, config: expfw.RunConfig) -> Generator[None, expfw.Splits, expfw.Splits]:
        from expfw_callbacks.augmenting.image_batches import AugmentedImages

        data = yield
        options, train, shape = self.config, data.train, data.spec.input_shape
        if isinstance(shape, Mapping) or len(shape) != 3:
            raise expfw.DataError(
                "callback=augmentation moves images (height, width, channels); samples of these data have shape "
                f"{shape}"
            )
        background = data.spec.preprocessing.offset
        x = AugmentedImages(train.x, options.copies, options.shift, options.mirror, config.seed, background)
        y, weight = (self._repeat_for_copies(part) for part in (train.y, train.weight))
        return dataclasses.replace(data, train=expfw.Split(x, y, weight))

    def _repeat_for_copies(self, part: Any) -> Any:
        """Targets or weights, once for the images and once for each copy."""
        if part is None:
            return None
        if isinstance(part, Mapping):
            return {name: self._repeat_for_copies(array) for name, array in part.items()}
        return np.concatenate([part] * (self.config.copies + 1))
