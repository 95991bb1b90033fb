"""Samples with copies of theirs that are moved a little."""

from __future__ import annotations

from typing import Any

import numpy as np

_PORTION = 4096  # samples


class Augmented:
    """Images, and further copies of each that are shifted, and mirrored if asked for; made when they are asked for.

    The first `n` are the images as they are. What happens to a copy is drawn beforehand, from the seed.

    Args:
        images: preprocessed, `(n, height, width, channels)`, anything that gives NumPy arrays when indexed.
        copies: how many further ones of each.
        shift: pixels, at most, in each direction; what comes in at the edge is what was there.
        mirror: whether half of the copies are mirrored, left to right.
        ground: what preprocessing made of a raw image of zeros, a number or `(height, width, channels)`. It stays where
            it is, and what differs from it is moved: else the mean image that was subtracted would move too.
    """

    def __init__(self, images: Any, copies: int, shift: int, mirror: bool, seed: int, ground: Any = 0.0) -> None:
        self.images, self.ground = images, np.asarray(ground, images.dtype)
        count = len(images) * (copies + 1)
        generator = np.random.Generator(np.random.PCG64(seed))
        self.down, self.right = generator.integers(-shift, shift + 1, (2, count))
        self.mirrored = generator.random(count) < (0.5 if mirror else 0.0)
        for drawn in (self.down, self.right, self.mirrored):
            drawn[: len(images)] = 0
        self.shape = (count, *images.shape[1:])
        self.dtype, self.ndim = images.dtype, images.ndim

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = np.arange(len(self))[rows]
        made = np.empty((chosen.size, *self.shape[1:]), self.dtype)
        for begin in range(0, chosen.size, _PORTION):
            made[begin : begin + _PORTION] = self._moved(chosen.reshape(-1)[begin : begin + _PORTION])
        return made.reshape(chosen.shape + self.shape[1:])

    def _moved(self, rows: np.ndarray) -> np.ndarray:
        """These samples, `(k,)` numbers."""
        images = self.images[rows % len(self.images)]
        height, width = images.shape[1:3]
        down = np.clip(np.arange(height) - self.down[rows, np.newaxis], 0, height - 1)
        right = np.clip(np.arange(width) - self.right[rows, np.newaxis], 0, width - 1)
        right = np.where(self.mirrored[rows, np.newaxis], width - 1 - right, right)
        each = np.arange(len(rows))[:, np.newaxis, np.newaxis]
        moved = (images - self.ground)[each, down[:, :, np.newaxis], right[:, np.newaxis, :]] + self.ground
        originals = rows < len(self.images)
        moved[originals] = images[originals]
        return np.asarray(moved)
