"""Reads the first sentence of a plugin's docstring from its source, without importing it."""

from __future__ import annotations

import importlib.util
import re
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from expfw.errors import truncate_text
from expfw.plugins.entry import PluginEntry

_MAX_LENGTH = 70


def read_first_sentence(entry: PluginEntry) -> str:
    """Returns the first sentence, shortened; if it is not found, the name of the distribution."""
    docstring = (entry.loaded.__doc__ or "") if entry.loaded is not None else _read_docstring(entry.target)
    sentence = " ".join(re.split(r"\.\s|\.?\s*$|\n\s*\n", docstring.strip())[0].split())
    return truncate_text(sentence, _MAX_LENGTH) or f"of {entry.distribution}"


def _read_docstring(target: str) -> str:
    """Returns the docstring of a class; empty if it is not found.

    Args:
        target: target of an entry point, `module:Class`.
    """
    module, _, name = target.replace(" ", "").partition(":")
    try:
        spec = _find_spec(module)
        source = "" if spec is None or spec.origin is None else Path(spec.origin).read_text()
    except (ImportError, ValueError, OSError):
        return ""
    match = re.search(rf'^class {re.escape(name)}\b[^\n]*:\s*\n\s+r?"""(.+?)"""', source, re.MULTILINE | re.DOTALL)
    return match[1] if match else ""


def _find_spec(module: str) -> ModuleSpec | None:
    """Returns the spec of a module, without importing its parent packages."""
    top, *rest = module.split(".")
    spec, name = importlib.util.find_spec(top), top
    for part in rest:
        name = f"{name}.{part}"
        spec = None if spec is None else PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec
