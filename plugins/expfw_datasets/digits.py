"""Small handwritten digits, included in scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

import expfw
from expfw_datasets.preprocessing import images


class Digits(expfw.Dataset):
    """1,797 handwritten digits of 8x8 pixels, included in scikit-learn: no download. 20 % are for testing."""

    uses_seed: ClassVar = False

    Config: ClassVar = images.ImageOptions

    def identity(self) -> Mapping[str, Any]:
        return {"scikit-learn": version("scikit-learn")}

    def load(self, seed: int) -> expfw.Splits:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        pixels = pixels.reshape(-1, 8, 8, 1).astype(np.uint8)
        # the test samples depend on the split seed too
        train_rows, test_rows = images.split_rows(len(pixels), dataclasses.replace(self.config, validation=0.2))
        options = dataclasses.replace(self.config, split_seed=self.config.split_seed + 1)
        train, test = ((pixels[rows], labels[rows]) for rows in (train_rows, test_rows))
        return images.make_splits(train, test, tuple("0123456789"), options, max_value=16)
