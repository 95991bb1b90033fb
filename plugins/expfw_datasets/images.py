"""Splits of labelled images, from arrays of pixels."""

from __future__ import annotations

import numpy as np

import expfw


def splits(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    names: tuple[str, ...],
    preprocessing: expfw.Affine,
    chosen: tuple[np.ndarray, np.ndarray],
) -> expfw.Splits:
    """Splits that are scaled to float32 when they are asked for.

    Args:
        train, test: images `(n, height, width, channels)` and labels `(n,)`.
        names: of the classes.
        preprocessing: see `scaling.learned`.
        chosen: indices into `train` for training and validation, see `scaling.split`.
    """
    images, labels = train
    inner, held_out = chosen

    def made(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> expfw.Split | None:
        return expfw.Split(expfw.Preprocessed(x, preprocessing, rows), y[rows].astype(np.int32)) if len(rows) else None

    inside = made(images, labels, inner)
    assert inside is not None, "the caller leaves some for training"
    return expfw.Splits(
        spec=expfw.DataSpec(images.shape[1:], len(names), preprocessing=preprocessing, class_names=names),
        train=inside,
        validation=made(images, labels, held_out),
        test=made(*test, np.arange(len(test[1]))),
    )


def check_options(validation: float, limit: int | None = None) -> None:
    """Refuses a `validation` that is neither a share of the samples nor a number of them, and a `limit` of none."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected 1 or more")
    if validation < 0 or (validation >= 1 and not float(validation).is_integer()):
        raise ValueError(f"validation is {validation}; expected a share below 1, or a whole number of samples")
