"""Weights of classes as weights of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from expfw import ConfigError, Splits


def weighted_by_class(data: Splits, weights: Mapping[str, float]) -> Splits:
    """The same data, training samples weighted by their class on top of their own weight.

    Args:
        weights: of some classes, by number or name; others weigh 1.

    Raises:
        ConfigError: the data have no single target with classes, or not these.
    """
    if not weights:
        return data
    classes, names = data.spec.classes, list(data.spec.class_names)
    if not isinstance(classes, int):
        raise ConfigError("train.class_weight needs data with one target that has classes; leave it out")
    table = np.ones(classes, np.float32)
    for name, weight in weights.items():
        number = names.index(name) if name in names else int(name) if name.isdigit() else -1
        if not 0 <= number < classes:
            known = ", ".join(names) or f"0 to {classes - 1}"
            raise ConfigError(f"train.class_weight has {name!r}, which is no class of these data; there are: {known}")
        table[number] = weight
    own = 1.0 if data.train.weight is None else data.train.weight
    weighted = dataclasses.replace(data.train, weight=(table[data.train.y] * own).astype(np.float32))
    return dataclasses.replace(data, train=weighted)
