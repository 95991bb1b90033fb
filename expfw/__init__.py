"""expfw: plugin-based experiment tracking. `__init__.pyi` lists all public names."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

_NAMES = re.findall(r"^from (\S+) import (\w+)", Path(__file__).with_suffix(".pyi").read_text(), re.MULTILINE)
_MODULE_BY_NAME = {name: module for module, name in _NAMES}
__all__ = sorted(_MODULE_BY_NAME)  # noqa: PLE0605  # type checkers read the stub file


def __getattr__(name: str) -> Any:  # imports on first use, so that `import expfw` is fast
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module 'expfw' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_BY_NAME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
