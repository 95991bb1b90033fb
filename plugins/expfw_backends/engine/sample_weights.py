"""Weights of classes as weights of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from expfw import ConfigError, Splits


def apply_class_weights(data: Splits, weights: Mapping[str, float]) -> Splits:
    """The same data, training samples weighted by their class on top of their own weight.

    Args:
        weights: of some classes, by number or name; others weigh 1.

    Raises:
        ConfigError: the data have no single target with classes, or not these.
    """
    if not weights:
        return data
    classes, class_names = data.spec.classes, list(data.spec.class_names)
    if not isinstance(classes, int):
        raise ConfigError("train.class_weight needs data with one target that has classes; leave it out")
    class_weights = np.ones(classes, np.float32)
    for name, weight in weights.items():
        class_number = class_names.index(name) if name in class_names else int(name) if name.isdigit() else -1
        if not 0 <= class_number < classes:
            known_classes = ", ".join(class_names) or f"0 to {classes - 1}"
            raise ConfigError(
                f"train.class_weight has {name!r}, which is no class of these data; there are: {known_classes}"
            )
        class_weights[class_number] = weight
    own_weight = 1.0 if data.train.weight is None else data.train.weight
    weighted_split = dataclasses.replace(
        data.train, weight=(class_weights[data.train.y] * own_weight).astype(np.float32)
    )
    return dataclasses.replace(data, train=weighted_split)
