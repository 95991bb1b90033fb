"""Plugin files: plain Python files with plugin classes, each imported under a unique module name."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from expfw.api import contracts
from expfw.errors import PluginError
from expfw.plugins.importing import import_safely


def get_module_name(file: Path) -> str:
    """Returns the module name of a plugin file in this process."""
    return "expfw_file_" + re.sub(r"\W", "_", str(file.resolve()))


def load_classes(file: str) -> list[type[contracts.Plugin]]:
    """Returns the plugin classes that a file defines.

    Raises:
        PluginError: if the file is missing, cannot be imported or defines no plugin.
    """
    module = _load_module(Path(file))
    own_classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    plugin_classes = [c for c in own_classes if issubclass(c, contracts.Plugin)]
    if not plugin_classes:
        raise PluginError(
            f"{file} defines no plugin; expected a subclass of expfw.Model, Dataset, Backend, Callback or Tracker"
        )
    return plugin_classes


def forget_file(file: str) -> None:
    """Removes the cached module, so that the file is read again at the next use; it may be edited in a notebook."""
    sys.modules.pop(get_module_name(Path(file)), None)


def _load_module(file: Path) -> ModuleType:
    name = get_module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise PluginError(f"there is no plugin file {file}; expected a Python file with a plugin class")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python file; expected a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look up the module while it runs
    execute = spec.loader.exec_module
    try:
        import_safely(lambda: execute(module), str(file), f"plugin file {file}", f"fix it, or omit -p {file}")
    except PluginError:
        del sys.modules[name]
        raise
    return module
