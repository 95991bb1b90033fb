"""Samples with copies of theirs that are moved a little."""

from __future__ import annotations

from typing import Any

import numpy as np

import expfw

_PORTION = 4096  # samples


class Augmented(expfw.Preprocessed):
    """Images, and further copies of each that are shifted, and mirrored if asked for; made when they are asked for.

    The first `n` are the images as they are. What happens to a copy is drawn beforehand, from the seed.

    Args:
        images: `(n, height, width, channels)`, anything that gives NumPy arrays when indexed.
        copies: how many further ones of each.
        shift: pixels, at most, in each direction; what comes in at the edge is what was there.
        mirror: whether half of the copies are mirrored, left to right.
    """

    def __init__(self, images: Any, copies: int, shift: int, mirror: bool, seed: int) -> None:
        self.images, self.shift = images, shift
        of_raw = isinstance(images, expfw.Preprocessed)
        super().__init__(images.raw if of_raw else images, images.preprocessing if of_raw else expfw.Affine())
        self.source = images.rows if of_raw and images.rows is not None else np.arange(len(images))
        count = len(images) * (copies + 1)
        generator = np.random.Generator(np.random.PCG64(seed))
        self.down, self.right = generator.integers(-shift, shift + 1, (2, count))
        self.mirrored = generator.random(count) < (0.5 if mirror else 0.0)
        for drawn in (self.down, self.right, self.mirrored):
            drawn[: len(images)] = 0
        self.shape = (count, *images.shape[1:])

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, tuple) or rows is Ellipsis:
            return self[:][rows]
        chosen = np.arange(len(self))[rows]
        if chosen.ndim == 0:
            (single,) = self._moved(chosen.reshape(1))
            return np.asarray(single)
        if len(chosen) <= _PORTION:
            return self._moved(chosen)
        made = np.empty((len(chosen), *self.shape[1:]), np.float32)
        for begin in range(0, len(chosen), _PORTION):
            made[begin : begin + _PORTION] = self._moved(chosen[begin : begin + _PORTION])
        return made

    def _moved(self, rows: np.ndarray) -> np.ndarray:
        """These samples, `(k,)` numbers, preprocessed."""
        images = np.asarray(self.raw[self.source[rows % len(self.images)]])
        height, width = images.shape[1:3]
        down = np.clip(np.arange(height) - self.down[rows, np.newaxis], 0, height - 1)
        right = np.clip(np.arange(width) - self.right[rows, np.newaxis], 0, width - 1)
        right = np.where(self.mirrored[rows, np.newaxis], width - 1 - right, right)
        each = np.arange(len(rows))[:, np.newaxis, np.newaxis]
        return self.preprocessing(images[each, down[:, :, np.newaxis], right[:, np.newaxis, :]])
