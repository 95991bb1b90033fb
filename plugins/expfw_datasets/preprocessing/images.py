"""Labelled images: the options of datasets that read them from files, and splits from arrays of pixels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

import expfw
from expfw_datasets.preprocessing.scaling import Scaling, SplitBy


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
        preprocessing: see `scaling.learned`.
        indices: indices into `train` for training and validation, see `scaling.split`.
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
