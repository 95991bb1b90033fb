"""Imports TensorFlow and Keras, but not the other packages that Keras imports only because they are installed.

Those are scikit-learn (with much of SciPy), pandas, matplotlib and IPython, most of which come with MLflow: two fifths
of the time, and 150 MiB. Each is imported when the part of Keras that needs it is used for the first time.
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
"""Modules that are there at once, and executed when one of their attributes is asked for."""


class _LazyModule(ModuleType):
    """Not executed yet. The standard library's `LazyLoader` is for one thread only, before Python 3.12.3."""

    def __getattr__(self, name: str) -> Any:
        loader = self.__spec__.loader if self.__spec__ is not None else None
        if isinstance(loader, _LazyLoader):
            loader.execute(self)
        return ModuleType.__getattribute__(self, name)


class _LazyLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader, self.lock, self.has_started = loader, RLock(), False

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).pop("__path__", None)  # whoever imports a module below it asks for that
        module.__class__ = _LazyModule

    def execute(self, module: ModuleType) -> None:
        """Executes the module, once; another thread that wants something of it waits."""
        with self.lock:
            if self.has_started:  # by another thread, to its end; or by this one, which is in the middle of it
                return
            self.has_started = True
            assert module.__spec__ is not None
            if module.__spec__.submodule_search_locations is not None:
                module.__path__ = module.__spec__.submodule_search_locations
            try:
                self.loader.exec_module(module)
            except BaseException:
                self.has_started = False
                raise
            module.__class__ = ModuleType


class _LazyFinder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LAZY_MODULES else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


_finder = _LazyFinder()
sys.meta_path.insert(0, _finder)
try:
    for _name in ("tensorflow", "keras"):
        importlib.import_module(_name)
finally:
    sys.meta_path.remove(_finder)
