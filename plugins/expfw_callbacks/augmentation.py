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


_CHUNK_SAMPLES = 4096


class AugmentedImages:
    """Images, followed by shifted and mirrored copies that are computed when indexed.

    The first `n` samples are the unchanged images. The shifts of all copies are drawn in advance, from the seed.

    Args:
        images: preprocessed images, `(n, height, width, channels)`; any object that returns NumPy arrays when indexed.
        copies: number of copies of each image.
        shift: maximum shift in each direction, in pixels. The pixels at the edge are repeated.
        mirror: whether half of the copies are mirrored horizontally.
        seed: seed of the shifts and of the mirrored copies.
        background: preprocessed value of a raw image of zeros, a number or `(height, width, channels)`. Only the
            difference to the background is shifted; otherwise a subtracted mean image would be shifted too.
    """

    def __init__(self, images: Any, copies: int, shift: int, mirror: bool, seed: int, background: Any = 0.0) -> None:
        self.images, self.background = images, np.asarray(background, images.dtype)
        count = len(images) * (copies + 1)
        generator = np.random.Generator(np.random.PCG64(seed))
        self.shift_down, self.shift_right = generator.integers(-shift, shift + 1, (2, count))
        self.is_mirrored = generator.random(count) < (0.5 if mirror else 0.0)
        for random_values in (self.shift_down, self.shift_right, self.is_mirrored):
            random_values[: len(images)] = 0
        self.shape = (count, *images.shape[1:])
        self.dtype, self.ndim = images.dtype, images.ndim

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        indices = np.arange(len(self))[rows]
        images = np.empty((indices.size, *self.shape[1:]), self.dtype)
        for begin in range(0, indices.size, _CHUNK_SAMPLES):
            chunk = slice(begin, begin + _CHUNK_SAMPLES)
            images[chunk] = self._move_images(indices.reshape(-1)[chunk])
        return images.reshape(indices.shape + self.shape[1:])

    def _move_images(self, rows: np.ndarray) -> np.ndarray:
        """Returns the samples with these numbers, `(k,)`."""
        images = self.images[rows % len(self.images)]
        height, width = images.shape[1:3]
        source_rows = np.clip(np.arange(height) - self.shift_down[rows, np.newaxis], 0, height - 1)
        source_columns = np.clip(np.arange(width) - self.shift_right[rows, np.newaxis], 0, width - 1)
        source_columns = np.where(self.is_mirrored[rows, np.newaxis], width - 1 - source_columns, source_columns)
        sample_indices = np.arange(len(rows))[:, np.newaxis, np.newaxis]
        moved_images = (images - self.background)[
            sample_indices, source_rows[:, :, np.newaxis], source_columns[:, np.newaxis, :]
        ] + self.background
        is_original = rows < len(self.images)
        moved_images[is_original] = images[is_original]
        return np.asarray(moved_images)
