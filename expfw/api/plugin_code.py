"""Digests of the source code of plugins: they show that it has changed."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from types import ModuleType

from expfw.system.input_files import read_bytes

_CODE_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)


def hash_code(plugin: type) -> dict[str, str]:
    """Returns the digest of the code of a plugin class, by name of its package or plugin file.

    Base classes in other packages count, but not those of expfw, of the standard library and, unless they are plugins,
    of packages in `site-packages`. The digest of a package covers all its modules, because the plugin may use any of
    them, and is computed once, when the package is imported.
    """
    digests = {}
    for cls in plugin.__mro__:
        module, package = _find_outer_module(cls.__module__), cls.__module__.partition(".")[0]
        if module is None or module.__file__ is None or package in ("expfw", *sys.stdlib_module_names):
            continue  # without a file: defined in a notebook
        file = Path(module.__file__)
        if not hasattr(cls, "kind") and not {"site-packages", "dist-packages"}.isdisjoint(file.parts):
            continue
        if module.__package__:
            digests[module.__package__] = _hash_package(file.parent)
        elif digest := hash_file(file):
            digests[file.name] = digest
    return dict(sorted(digests.items()))


def _find_outer_module(name: str) -> ModuleType | None:
    """Returns the outermost package with an `__init__.py`, or the module itself; None if it has no file."""
    parts = name.split(".")
    modules = [sys.modules.get(".".join(parts[: count + 1])) for count in range(len(parts))]
    return next((module for module in modules if getattr(module, "__file__", None)), None)


@cache
def _hash_package(folder: Path) -> str:
    lines = []
    for path in folder.rglob("*"):
        if path.name.endswith(_CODE_SUFFIXES) and path.is_file():
            lines.append(f"{path.relative_to(folder).as_posix()} {hash_file(path)}")
    return hashlib.sha256(repr(sorted(lines)).encode()).hexdigest()[:16]


def hash_file(file: str | Path) -> str | None:
    """Returns the digest of a file, 16 hexadecimal digits; None if it cannot be read."""
    with suppress(OSError, ValueError):
        return hashlib.sha256(read_bytes(file)).hexdigest()[:16]
    return None
