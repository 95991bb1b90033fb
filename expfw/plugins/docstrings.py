"""What a plugin is, in the first sentence of its class's docstring, read from its source: nothing is imported."""

from __future__ import annotations

import importlib.util
import re
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from expfw.errors import shortened
from expfw.plugins.entry import Found

_LONGEST = 70


def about(plugin: Found) -> str:
    """The first sentence, shortened; where it cannot be found, whose plugin it is."""
    said = (plugin.loaded.__doc__ or "") if plugin.loaded is not None else _docstring(plugin.target)
    first = " ".join(re.split(r"\.\s|\.?\s*$|\n\s*\n", said.strip())[0].split())
    return shortened(first, _LONGEST) or f"of {plugin.distribution}"


def _docstring(target: str) -> str:
    """Of a class; empty where it cannot be found.

    Args:
        target: of an entry point, `module:Class`.
    """
    module, _, name = target.replace(" ", "").partition(":")
    try:
        spec = _spec(module)
        source = "" if spec is None or spec.origin is None else Path(spec.origin).read_text()
    except (ImportError, ValueError, OSError):
        return ""
    found = re.search(rf'^class {re.escape(name)}\b[^\n]*:\s*\n\s+r?"""(.+?)"""', source, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _spec(module: str) -> ModuleSpec | None:
    """Of a module, without importing the packages that it lies in."""
    top, *rest = module.split(".")
    spec, name = importlib.util.find_spec(top), top
    for part in rest:
        name = f"{name}.{part}"
        spec = None if spec is None else PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec
