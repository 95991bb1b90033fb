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


def check_share(validation: float) -> None:
    """Refuses a share of validation samples that leaves none for training."""
    if not 0 <= validation < 1:
        raise ValueError(f"validation is {validation}; expected 0 or more and below 1")
