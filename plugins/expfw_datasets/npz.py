"""Your own arrays, from a NumPy archive."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import expfw
from expfw_datasets.files.gzipped_files import describe_file
from expfw_datasets.preprocessing import images

_MANY_CLASSES = 100_000  # with more classes than this, there must be more samples than classes
_SPLITS = ("train", "validation", "test")


class Npz(expfw.Dataset):
    """Arrays `x_train` and `y_train` of a .npz file, and `x_validation`, `y_validation`, `x_test`, `y_test` and
    `weight_train` if they exist; without `x_validation`, some training samples are held out. Integer targets `(n,)` are
    classes; other targets are values.

    An uncompressed archive, written by `numpy.savez`, is memory-mapped, so it may be larger than memory.
    """

    uses_seed: ClassVar = False

    @dataclass(kw_only=True)
    class Config(images.SplitOptions):
        path: str = dataclasses.field(metadata={"help": "path of the .npz file"})
        scaling: Literal["none", "unit"] = expfw.option("none", help="unit: pixel/255, for uint8 images")

    def identity(self) -> Mapping[str, Any]:
        return {"file": describe_file(self._require_file())}

    def load(self, seed: int) -> expfw.Splits:
        arrays = expfw.read_numpy(self._require_file())
        self._check_arrays(arrays)
        targets, classes = arrays["y_train"], None
        names = [name for name in _SPLITS if f"x_{name}" in arrays]
        if _has_classes(targets):
            classes = int(max(arrays[f"y_{name}"].max() for name in names)) + 1
        preprocessing = expfw.AffineScaling(scale=1 / 255 if self.config.scaling == "unit" else 1.0)
        sources = {name: (name, np.arange(len(arrays[f"x_{name}"]))) for name in names}  # arrays and rows of each split
        if "validation" not in sources and self.config.validation:
            train_rows, validation_rows = images.split_rows(len(targets), self.config)
            sources["train"] = "train", train_rows
            if len(validation_rows):
                sources["validation"] = "train", validation_rows

        def make_split(name: str) -> expfw.Split:
            source, rows = sources[name]
            x = expfw.Preprocessed(arrays[f"x_{source}"], preprocessing, rows)
            y = arrays[f"y_{source}"][rows].astype(np.float32 if classes is None else np.int32)
            weight = arrays.get(f"weight_{source}") if name == source else None
            return expfw.Split(x, y, None if weight is None else weight[rows].astype(np.float32))

        spec = expfw.DataSpec(
            arrays["x_train"].shape[1:],
            classes=classes,
            output_shape=targets.shape[1:] if classes is None else (),
            preprocessing=preprocessing,
        )
        return expfw.Splits(spec, **{name: make_split(name) for name in sources})

    def _check_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        path = self.config.path
        if not {"x_train", "y_train"} <= arrays.keys():
            raise expfw.DataError(f"{path} has {', '.join(arrays)}; expected x_train and y_train")
        used = {
            name: (name.partition("_")[0], name.partition("_")[2], array)
            for name, array in arrays.items()
            if re.fullmatch(f"(x|y|weight)_({'|'.join(_SPLITS)})", name) and f"x_{name.partition('_')[2]}" in arrays
        }
        for name, (_, split, array) in used.items():
            if array.dtype.kind not in "fiub":
                problem = "contains Python objects" if array.dtype.hasobject else f"has type {array.dtype}"
                raise expfw.DataError(f"{path}: {name} {problem}; expected real numbers")
            if array.ndim == 0 or array.size == 0:
                raise expfw.DataError(
                    f"{path}: {name} has shape {array.shape}; expected at least one sample and no empty dimension"
                )
            if f"y_{split}" not in arrays:
                raise expfw.DataError(f"{path} has x_{split} without y_{split}; expected both")
        has_classes = _has_classes(arrays["y_train"])
        max_classes = max(_MANY_CLASSES, len(arrays["x_train"]))
        for name, (kind, split, array) in used.items():
            sample_count = len(arrays[f"x_{split}"])
            if len(array) != sample_count:
                raise expfw.DataError(
                    f"{path}: {name} has {len(array)} entries; expected {sample_count}, as in x_{split}"
                )
            if kind == "y" and has_classes and not _has_classes(array):
                raise expfw.DataError(
                    f"{path}: {name} has type {array.dtype} and shape {array.shape}; expected classes, as in y_train: "
                    f"integers of shape ({sample_count},)"
                )
            if kind == "y" and has_classes and (array.min() < 0 or array.max() >= max_classes):
                raise expfw.DataError(
                    f"{path}: {name} has classes from {array.min()} to {array.max()}; expected 0 or more, below "
                    f"{max_classes:,}; save values to predict as floats"
                )
            if kind == "weight" and (array.ndim != 1 or not (array >= 0).all()):
                raise expfw.DataError(
                    f"{path}: {name} has shape {array.shape} and values from {array.min()} to {array.max()}; expected "
                    f"one weight of 0 or more for each sample, shape ({sample_count},)"
                )
            if kind != "x":
                self._check_finite(name, array)

    def _check_finite(self, name: str, array: np.ndarray) -> None:
        """Rejects values that are not finite in the precision of the training."""
        with np.errstate(over="ignore"):
            is_wrong = ~np.isfinite(array.astype(np.float32))
        if is_wrong.any():
            index = [int(place) for place in np.unravel_index(is_wrong.argmax(), array.shape)]
            raise expfw.DataError(
                f"{self.config.path}: {name} has {array[tuple(index)]} at index {index} (from 0), and "
                f"{is_wrong.sum() - 1} more such values; expected finite numbers of type float32; remove these samples"
            )

    def _require_file(self) -> Path:
        file = Path(self.config.path)
        if not (file.is_file() and zipfile.is_zipfile(file)):
            problem = " is not a .npz file" if file.is_file() else f": no file {file.absolute()}"
            raise expfw.DataError(f"dataset.path={file}{problem}; expected a .npz file written by numpy.savez")
        return file


def _has_classes(targets: np.ndarray) -> bool:
    return targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
