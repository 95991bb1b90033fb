"""Plugin entry of a class under test: from its entry point, or from the file that defines the class."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from expfw.api.contracts import Plugin
from expfw.errors import PluginError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.kinds import KINDS
from expfw.plugins.plain_files import get_module_name


def find_plugin_files(cls: Any) -> tuple[str, ...]:
    """Returns the file that defines a class, or nothing if the class has an entry point.

    The module that is already loaded is used for that file; it is not executed again in this process.

    Raises:
        PluginError: if another process could not import the class from the file.
    """
    if not _is_plugin(cls) or any(_is_entry_of(entry, cls) for entry in get_catalogue().entries[cls.kind]):
        return ()
    file = inspect.getsourcefile(cls)
    if file is None or cls.__qualname__ != cls.__name__:
        raise PluginError(
            f"{cls.__qualname__} is not defined at the top level of a file, so other processes cannot import it; "
            "move it there"
        )
    sys.modules.setdefault(get_module_name(Path(file)), sys.modules[cls.__module__])
    return (file,)


def find_plugin_entry(cls: type[Plugin], files: tuple[str, ...]) -> PluginEntry:
    """Returns the plugin entry of a class.

    Raises:
        PluginError: if the class is not a plugin, or its name is already used.
    """
    if not _is_plugin(cls):
        raise PluginError(f"plugin = {cls!r} is not a plugin; expected a subclass of expfw.Model, Dataset, ...")
    full_catalogue = get_catalogue(files)
    (entry,) = (
        candidate
        for candidate in full_catalogue.entries[cls.kind]
        if candidate.loaded is cls or _is_entry_of(candidate, cls)
    )
    return full_catalogue.get(cls.kind, entry.name)


def _is_plugin(cls: Any) -> bool:
    return inspect.isclass(cls) and issubclass(cls, Plugin) and getattr(cls, "kind", None) in KINDS


def _is_entry_of(entry: PluginEntry, cls: type) -> bool:
    return entry.target == f"{cls.__module__}:{cls.__qualname__}"
