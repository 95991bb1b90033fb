"""Labelled images: the options of datasets that read them from files, and splits from arrays of pixels."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

import expfw


@dataclass
class ImageFilesOptions:
    """Options of datasets of images in files."""

    path: str = dataclasses.field(metadata={"help": "folder with the files, gzipped or not"})
    scaling: Scaling = expfw.option(
        "standard", help="unit: pixel/255; standard: minus the mean image, by the deviation"
    )
    validation: float = expfw.option(
        0.1, help="training samples held out for validation: a share, or a number of 1 or more; 0 for none"
    )
    split_by: SplitBy = expfw.option("tail", help="which samples are held out: the tail, or drawn")
    split_seed: int = expfw.option(0, help="seed of the drawing, apart from the run's seed")
    limit: int | None = expfw.option(None, help="use only so many of the training samples")

    def __post_init__(self) -> None:
        check_options(self.validation, self.split_seed, self.limit)


def make_splits(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: tuple[str, ...],
    preprocessing: expfw.AffineScaling,
    indices: tuple[np.ndarray, np.ndarray],
) -> expfw.Splits:
    """Splits that are scaled to float32 when they are asked for.

    Args:
        train, test: images `(n, height, width, channels)` and labels `(n,)`.
        class_names: of the classes.
        preprocessing: see `learn_preprocessing`.
        indices: indices into `train` for training and validation, see `split_indices`.
    """
    images, labels = train
    train_indices, validation_indices = indices

    def make_split(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> expfw.Split | None:
        return expfw.Split(expfw.Preprocessed(x, preprocessing, rows), y[rows].astype(np.int32)) if len(rows) else None

    train_split = make_split(images, labels, train_indices)
    assert train_split is not None, "the caller leaves some for training"
    return expfw.Splits(
        spec=expfw.DataSpec(images.shape[1:], len(class_names), preprocessing=preprocessing, class_names=class_names),
        train=train_split,
        validation=make_split(images, labels, validation_indices),
        test=make_split(*test, np.arange(len(test[1]))),
    )


def check_options(validation: float, split_seed: int, limit: int | None = None) -> None:
    """Refuses a `validation` that is neither a share of the samples nor a number of them, a seed below 0, no limit."""
    if split_seed < 0:
        raise ValueError(f"split_seed is {split_seed}; expected 0 or more")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected 1 or more")
    if not validation >= 0 or (validation >= 1 and not float(validation).is_integer()):
        raise ValueError(f"validation is {validation}; expected a share below 1, or a whole number of samples")


Scaling = Literal["unit", "standard"]

SplitBy = Literal["tail", "random"]

CHUNK_SAMPLES = 512  # samples; of small images so many fit into the caches of a processor


def learn_preprocessing(
    scaling: Scaling, samples: np.ndarray, rows: np.ndarray, max_value: float
) -> expfw.AffineScaling:
    """The preprocessing for such samples.

    Args:
        scaling: `unit` is pixel / largest. `standard` is the chapter-13 notebook's: pixel to [-1, 1], minus the mean of
            each pixel over the training data, divided by the one standard deviation of all of them.
        samples: raw samples, uint8 `(n, ...)`; read in portions, so that they may be larger than memory.
        rows: which of them are for training.
        max_value: the largest value a raw pixel can have.
    """
    if scaling == "unit":
        return expfw.AffineScaling(scale=1 / max_value)
    pixel_sums, square_sum = np.zeros(samples.shape[1:], np.int64), 0  # whole numbers: exact, whatever the portions
    for begin in range(0, len(rows), CHUNK_SAMPLES):
        chunk = samples[rows[begin : begin + CHUNK_SAMPLES]].astype(np.int64)
        pixel_sums += chunk.sum(axis=0)
        square_sum += int(np.square(chunk).sum())
    value_count = len(rows) * math.prod(samples.shape[1:])
    deviation = math.sqrt(max(0.0, square_sum / value_count - (int(pixel_sums.sum()) / value_count) ** 2))
    if deviation == 0:
        raise expfw.DataError(
            "all training values are equal: scaling=standard has nothing to divide by; use scaling=unit"
        )
    return expfw.AffineScaling(scale=1 / deviation, offset=(-(pixel_sums / len(rows)) / deviation).astype(np.float32))


def split_indices(
    count: int, validation: float, split_by: SplitBy, seed: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and validation samples.

    Args:
        count: how many there are to divide.
        validation: what goes to validation: a share below 1, or a number of samples.
        split_by: `tail` takes the last ones, `random` draws them.
        seed: of the drawing.
        limit: most samples for training; what is more is not used.

    Raises:
        DataError: nothing is left for training.
    """
    if count == 0:
        raise expfw.DataError("there are no training samples; expected at least one")
    validation_count = round(count * validation) if validation < 1 else int(validation)
    if validation_count >= count:
        raise expfw.DataError(
            f"dataset.validation={validation:g} leaves none of the {count} training samples to train on; hold out fewer"
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count) if split_by == "random" else np.arange(count)
    return order[: count - validation_count][:limit], order[count - validation_count :]
