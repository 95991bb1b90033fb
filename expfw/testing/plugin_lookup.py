"""The plugin under test as the catalogue has it: by its entry point, or by the file that its class is in."""

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
    """The plugin file that a class is in, where no entry point names it.

    The module that is there already is taken for that file's: it is not run a second time in this process.

    Raises:
        PluginError: another process would not find the class there.
    """
    if not _is_plugin(cls) or any(_is_entry_of(entry, cls) for entry in get_catalogue().entries[cls.kind]):
        return ()
    file = inspect.getsourcefile(cls)
    if file is None or cls.__qualname__ != cls.__name__:
        raise PluginError(
            f"{cls.__qualname__} is defined inside of something else, where no other process finds it; put it at "
            "the top level of a file"
        )
    sys.modules.setdefault(get_module_name(Path(file)), sys.modules[cls.__module__])
    return (file,)


def find_plugin_entry(cls: type[Plugin], files: tuple[str, ...]) -> PluginEntry:
    """The class as the catalogue declares it.

    Raises:
        PluginError: it is none of expfw's kinds of plugin, or its name is taken.
    """
    if not _is_plugin(cls):
        raise PluginError(f"plugin = {cls!r} is no plugin; expected a class that is an expfw.Model, Dataset, ...")
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
