"""Saves and restores the global random generators of Python and NumPy, which plugins may use in their hooks."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np


def get_random_state() -> dict[str, Any]:
    """Returns both states as JSON values."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, next_gauss = random.getstate()
    numpy_state = [name, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)]
    return {"numpy": numpy_state, "python": [version, list(internal), next_gauss]}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restores the states that `get_random_state` returned."""
    name, keys, *others = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *others))
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
