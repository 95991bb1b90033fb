"""Public names of a package, imported on first use, so that the import of the package is fast."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def make_module_functions(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` of a package whose stub file imports its public names."""
    imports = re.findall(r"^from (\S+) import (\w+)", Path(file).with_suffix(".pyi").read_text(), re.MULTILINE)
    module_by_name = {name: module for module, name in imports}

    def get_name(name: str) -> Any:
        if name not in module_by_name:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module_by_name[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get_name, lambda: sorted(module_by_name)
