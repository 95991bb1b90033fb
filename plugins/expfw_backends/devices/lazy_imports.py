"""Imports TensorFlow and Keras without the optional packages that Keras imports whenever they are installed.

These are scikit-learn (with much of SciPy), pandas, matplotlib and IPython; MLflow installs most of them. They take two
fifths of the import time, and 150 MiB. Each is imported when the part of Keras that needs it is first used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

LAZY_MODULES = (
    "IPython",  # editing files of saved models
    "keras.src.trainers.data_adapters.array_slicing",  # arrays for Keras' own `fit` and `predict`: pandas
    "keras.src.visualization",  # matplotlib
    "keras.visualization",
    "keras.wrappers",  # scikit-learn
)
"""Modules whose code runs only when one of their attributes is read."""


class _LazyModule(ModuleType):
    """A module whose code runs once, at first use; other threads that use it wait.

    Before Python 3.12.3, the standard `LazyLoader` is not thread-safe.
    """

    def __getattr__(self, name: str) -> Any:
        module: ModuleType = self
        spec = module.__spec__
        assert spec is not None
        assert isinstance(spec.loader, _LazyLoader)
        with spec.loader.lock:
            if not spec.loader.has_started:  # else finished by another thread, or in progress in this one
                spec.loader.has_started = True
                if spec.submodule_search_locations is not None:
                    module.__path__ = spec.submodule_search_locations
                spec.loader.loader.exec_module(module)
                module.__class__ = ModuleType
        return ModuleType.__getattribute__(module, name)


class _LazyLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader, self.lock, self.has_started = loader, RLock(), False

    def exec_module(self, module: ModuleType) -> None:
        vars(module).pop("__path__", None)  # an import of a submodule then looks it up, which runs the code
        module.__class__ = _LazyModule


class _LazyFinder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LAZY_MODULES else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


_finder = _LazyFinder()
sys.meta_path.insert(0, _finder)
try:
    importlib.import_module("tensorflow")
    importlib.import_module("keras")
finally:
    sys.meta_path.remove(_finder)
