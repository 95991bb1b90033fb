"""Small handwritten digits, included in scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

import expfw
from expfw_datasets.preprocessing import images
from expfw_datasets.preprocessing.images import Scaling, SplitBy


class Digits(expfw.Dataset):
    """1,797 handwritten digits of 8x8 pixels, included in scikit-learn: no download. 20 % are for testing."""

    uses_seed: ClassVar = False

    @dataclass
    class Config:
        scaling: Scaling = expfw.option(
            "standard", help="unit: pixel/16; standard: minus the mean image, divided by the standard deviation"
        )
        validation: float = expfw.option(
            0.1,
            help="training samples held out for validation: a fraction, or a number of 1 or more; 0 for none",
            at_least=0,
        )
        split_by: SplitBy = expfw.option("random", help="validation samples: the last ones (tail) or random ones")
        split_seed: int = expfw.option(0, help="seed of the random split, independent of the run's seed", at_least=0)

        def __post_init__(self) -> None:
            images.check_validation(self.validation)

    def identity(self) -> Mapping[str, Any]:
        return {"scikit-learn": version("scikit-learn")}

    def load(self, seed: int) -> expfw.Splits:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        pixels = pixels.reshape(-1, 8, 8, 1).astype(np.uint8)
        options = self.config
        train_indices, test_indices = images.split_indices(len(pixels), 0.2, options.split_by, options.split_seed)
        x, y = pixels[train_indices], labels[train_indices]
        indices = images.split_indices(len(x), options.validation, options.split_by, options.split_seed + 1)
        preprocessing = images.learn_preprocessing(options.scaling, x, indices[0], max_value=16)
        return images.make_splits(
            (x, y), (pixels[test_indices], labels[test_indices]), tuple("0123456789"), preprocessing, indices
        )
