"""Contracts for tests of plugins: one base class for each kind. Imports nothing until used.

from expfw.testing import ModelContract
from expfw_mine import Mine

class TestMine(ModelContract):
    plugin = Mine
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expfw.testing.backend_contract import BackendContract as BackendContract
    from expfw.testing.bench import Bench as Bench
    from expfw.testing.callback_contract import CallbackContract as CallbackContract
    from expfw.testing.contract import PluginContract as PluginContract
    from expfw.testing.dataset_contract import DatasetContract as DatasetContract
    from expfw.testing.model_contract import ModelContract as ModelContract
    from expfw.testing.run_contract import RunContract as RunContract
    from expfw.testing.tracker_contract import TrackerContract as TrackerContract

_NAMES = re.findall(r"^    from (\S+) import (\w+)", Path(__file__).read_text(), re.MULTILINE)
_MODULE_BY_NAME = {name: module for module, name in _NAMES}  # the imports above
__all__ = sorted(_MODULE_BY_NAME)  # noqa: PLE0605  # type checkers use the imports above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module 'expfw.testing' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_MODULE_BY_NAME[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise ModuleNotFoundError("expfw.testing needs pytest: pip install 'expfw[testing]'", name="pytest") from error
    globals()[name] = value
    return value
