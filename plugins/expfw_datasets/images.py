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
    """Scaled float32 splits.

    Args:
        train, test: images `(n, height, width, channels)` and labels `(n,)`.
        names: of the classes.
        preprocessing: see `scaling.learned`.
        chosen: indices into `train` for training and validation, see `scaling.split`.
    """
    images, labels = train
    inner, held_out = chosen

    def made(x: np.ndarray, y: np.ndarray) -> expfw.Split:
        return expfw.Split(preprocessing(x), y.astype(np.int32))

    return expfw.Splits(
        spec=expfw.DataSpec(images.shape[1:], len(names), preprocessing=preprocessing, class_names=names),
        train=made(images[inner], labels[inner]),
        validation=made(images[held_out], labels[held_out]) if len(held_out) else None,
        test=made(*test) if len(test[1]) else None,
    )


def check_share(validation: float) -> None:
    """Refuses a share of validation samples that leaves none for training."""
    if not 0 <= validation < 1:
        raise ValueError(f"validation is {validation}; expected 0 or more and below 1")
