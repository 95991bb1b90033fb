"""Imports TensorFlow and Keras, without what Keras imports beside them only because it is installed.

That is scikit-learn (and much of SciPy with it), pandas, matplotlib and IPython, most of which come with MLflow: two
fifths of the time, and 150 MiB. Each is imported when the part of Keras that uses it is used for the first time.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

LATER = (
    "IPython",  # editing files of saved models
    "keras.src.trainers.data_adapters.array_slicing",  # arrays for Keras' own `fit` and `predict`: pandas
    "keras.src.visualization",  # matplotlib
    "keras.visualization",
    "keras.wrappers",  # scikit-learn
)
"""Modules that are there at once, and executed when the first of their attributes is asked for."""


class _Later(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target) if name in LATER else None
        if found is not None and found.loader is not None:
            found.loader = LazyLoader(found.loader)
        return found


_later = _Later()
sys.meta_path.insert(0, _later)
try:
    for _name in ("tensorflow", "keras"):
        importlib.import_module(_name)
finally:
    sys.meta_path.remove(_later)
