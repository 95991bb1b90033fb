"""MNIST from its four original files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import expfw
from expfw_datasets.files.gzipped_files import describe_file, require_file
from expfw_datasets.preprocessing import images

FILE_NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


class Mnist(expfw.Dataset):
    """60,000 + 10,000 handwritten digits of 28x28 pixels (or any data in the same four files), from `dataset.path`."""

    uses_seed: ClassVar = False

    @dataclass(kw_only=True)
    class Config(images.ImageFilesOptions):
        classes: int = expfw.option(10, help="number of classes; labels start at 0", at_least=2)
        labels: tuple[int, ...] = expfw.option((), help="select images with these labels, renumbered from 0")

        def __post_init__(self) -> None:
            super().__post_init__()
            labels = set(self.labels)
            if labels and (len(labels) < max(2, len(self.labels)) or not labels <= set(range(self.classes))):
                raise ValueError(
                    f"labels is {list(self.labels)}; expected two or more different labels from 0 to {self.classes - 1}"
                )

    def load(self, seed: int) -> expfw.Splits:
        options = self.config
        train, test = self._read_part("train"), self._read_part("test")
        if train[0].shape[1:] != test[0].shape[1:]:
            raise expfw.DataError(
                f"{options.path}: training images are {train[0].shape[1:]}, test images {test[0].shape[1:]}; "
                "expected the same size"
            )
        names = tuple(map(str, options.labels or range(options.classes)))
        return images.make_splits(train, test, names, options)

    def identity(self) -> Mapping[str, Any]:
        return {part: describe_file(self._require_file(part)) for part in FILE_NAMES}

    def _read_part(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        x = expfw.read_idx(self._require_file(f"{part}_images"), dimensions=3)
        y = expfw.read_idx(self._require_file(f"{part}_labels"), dimensions=1)
        if len(x) != len(y):
            raise expfw.DataError(
                f"{self.config.path}: {len(x)} {part} images but {len(y)} {part} labels; expected equal numbers"
            )
        if 0 in x.shape[1:]:
            raise expfw.DataError(
                f"{self.config.path}: {part} images of {x.shape[1]}x{x.shape[2]} pixels; expected at least 1x1"
            )
        if len(y) and y.max() >= self.config.classes:
            raise expfw.DataError(
                f"{self.config.path}: a {part} label is {y.max()}, but dataset.classes is {self.config.classes}; "
                f"fix the labels, or set dataset.classes={int(y.max()) + 1}"
            )
        x = x[..., np.newaxis]
        if not (labels := self.config.labels):
            return x, y
        new_labels = np.full(self.config.classes, -1)
        new_labels[list(labels)] = np.arange(len(labels))
        rows = np.flatnonzero(new_labels[y] >= 0)
        return x[rows], new_labels[y[rows]]

    def _require_file(self, part: str) -> Path:
        return require_file(Path(self.config.path), FILE_NAMES[part], "the four MNIST files")
