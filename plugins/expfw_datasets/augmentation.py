"""Augmentation of images, around whatever dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass

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
        from expfw_datasets.augmented import Augmented

        data = yield
        train, options = data.train, self.config
        if len(data.spec.single_input("augmentation")) != 3:
            raise expfw.DataError(
                "callback=augmentation moves images (height, width, channels); samples of these data have shape "
                f"{data.spec.input_shape}"
            )
        times = options.copies + 1

        def repeated(array: np.ndarray) -> np.ndarray:
            return np.concatenate([array] * times)

        x = Augmented(train.x, options.copies, options.shift, options.mirror, config.seed)
        weight = None if train.weight is None else repeated(train.weight)
        return dataclasses.replace(data, train=expfw.Split(x, repeated(train.y), weight))
