"""Splits of a dataset: options, split into training and validation samples, scaling of images."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import expfw

Scaling = Literal["unit", "standard"]
SplitBy = Literal["tail", "random"]
CHUNK_SAMPLES = 512  # this number of small images fits into CPU caches


@dataclass(kw_only=True)
class SplitOptions:
    """Options of datasets that hold out validation samples."""

    validation: float = expfw.option(
        0.1,
        help="training samples held out for validation: a fraction, or a number of 1 or more; 0 for none",
        at_least=0,
    )
    split_by: SplitBy = expfw.option("random", help="validation samples: the last ones (tail) or random ones")
    split_seed: int = expfw.option(0, help="seed of the random split, independent of the run's seed", at_least=0)

    def __post_init__(self) -> None:
        if self.validation >= 1 and not float(self.validation).is_integer():
            raise ValueError(
                f"validation is {self.validation}; expected a fraction below 1, or a whole number of samples"
            )


@dataclass(kw_only=True)
class ImageOptions(SplitOptions):
    """Options of datasets of images."""

    scaling: Scaling = expfw.option(
        "standard",
        help="unit: pixel / largest value; standard: minus the mean image, divided by the deviation",
    )


@dataclass(kw_only=True)
class ImageFilesOptions(ImageOptions):
    """Options of datasets that read image files."""

    path: str = dataclasses.field(metadata={"help": "folder of the files, optionally gzipped"})
    split_by: SplitBy = expfw.option("tail", help="validation samples: the last ones (tail) or random ones")
    limit: int | None = expfw.option(None, help="maximum number of training samples", at_least=1)


def make_splits(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: tuple[str, ...],
    options: Any,
    max_value: float = 255,
) -> expfw.Splits:
    """Holds out validation samples and creates splits that are scaled to float32 when they are read.

    Args:
        train: images `(n, height, width, channels)` and labels `(n,)` for training and validation.
        test: images and labels for testing.
        class_names: names of the classes.
        options: `ImageOptions`.
        max_value: largest possible value of a raw pixel.
    """
    images, labels = train
    train_rows, validation_rows = split_rows(len(images), options, getattr(options, "limit", None))
    preprocessing = learn_preprocessing(options.scaling, images, train_rows, max_value)

    def make_split(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> expfw.Split:
        return expfw.Split(expfw.Preprocessed(x, preprocessing, rows), y[rows].astype(np.int32))

    return expfw.Splits(
        spec=expfw.DataSpec(images.shape[1:], len(class_names), preprocessing=preprocessing, class_names=class_names),
        train=make_split(images, labels, train_rows),
        validation=make_split(images, labels, validation_rows) if len(validation_rows) else None,
        test=make_split(*test, np.arange(len(test[1]))) if len(test[1]) else None,
    )


def learn_preprocessing(
    scaling: Scaling, samples: np.ndarray, rows: np.ndarray, max_value: float
) -> expfw.AffineScaling:
    """Computes the preprocessing from the training samples, which are in `rows` of the raw samples, uint8 `(n, ...)`.

    `unit` is pixel / max_value. `standard` is that of the chapter-13 notebook: pixel to [-1, 1], minus the mean of each
    pixel over the training data, divided by the standard deviation of all pixels. Samples are read in chunks, so they
    may be larger than memory.
    """
    if scaling == "unit":
        return expfw.AffineScaling(scale=1 / max_value)
    pixel_sums, square_sum = np.zeros(samples.shape[1:], np.int64), 0  # integers: exact for any chunk size
    for begin in range(0, len(rows), CHUNK_SAMPLES):
        chunk = samples[rows[begin : begin + CHUNK_SAMPLES]].astype(np.int64)
        pixel_sums += chunk.sum(axis=0)
        square_sum += int(np.square(chunk).sum())
    value_count = len(rows) * math.prod(samples.shape[1:])
    deviation = math.sqrt(max(0.0, square_sum / value_count - (int(pixel_sums.sum()) / value_count) ** 2))
    if deviation == 0:
        raise expfw.DataError(
            "all training values are equal, so scaling=standard would divide by 0; use dataset.scaling=unit"
        )
    return expfw.AffineScaling(scale=1 / deviation, offset=(-(pixel_sums / len(rows)) / deviation).astype(np.float32))


def split_rows(count: int, options: SplitOptions, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the training samples, at most `limit`, and of the validation samples.

    Raises:
        DataError: if no sample remains for training.
    """
    if count == 0:
        raise expfw.DataError("there are no training samples; expected at least one")
    validation = options.validation
    validation_count = round(count * validation) if validation < 1 else int(validation)
    if validation_count >= count:
        raise expfw.DataError(
            f"dataset.validation={validation:g} leaves none of the {count} samples for training; hold out fewer"
        )
    order = np.arange(count)
    if options.split_by == "random":
        order = np.random.Generator(np.random.PCG64(options.split_seed)).permutation(count)
    return order[: count - validation_count][:limit], order[count - validation_count :]
