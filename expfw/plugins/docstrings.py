"""Reads the first sentence of a plugin's docstring from its source, without importing it."""

from __future__ import annotations

import importlib.util
import re
from importlib.machinery import PathFinder
from pathlib import Path

from expfw.errors import truncate_text
from expfw.plugins.entry import PluginEntry

_MAX_LENGTH = 70


def read_first_sentence(entry: PluginEntry) -> str:
    """Returns the first sentence, shortened; if it is not found, the name of the distribution."""
    module, _, name = entry.target.replace(" ", "").partition(":")
    try:
        source = Path(entry.file or _find_source(module)).read_text()
    except (ImportError, ValueError, OSError):
        source = ""
    match = re.search(rf'^class {re.escape(name)}\b[^\n]*:\s*\n\s+r?"""(.+?)"""', source, re.MULTILINE | re.DOTALL)
    docstring = match[1] if match else ""
    sentence = " ".join(re.split(r"\.\s|\.?\s*$|\n\s*\n", docstring.strip())[0].split())
    return truncate_text(sentence, _MAX_LENGTH) or f"of {entry.distribution}"


def _find_source(module: str) -> str:
    """Returns the source file of a module, without importing its parent packages."""
    top, *rest = module.split(".")
    spec, name = importlib.util.find_spec(top), top
    for part in rest:
        name = f"{name}.{part}"
        spec = None if spec is None else PathFinder.find_spec(name, spec.submodule_search_locations)
    if spec is None or spec.origin is None:
        raise ImportError(f"there is no source of {module}")
    return spec.origin
