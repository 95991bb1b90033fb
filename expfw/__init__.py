"""expfw: plugin-based experiment tracking. Everything a plugin author may import is here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from expfw.version import API_VERSION as API_VERSION
from expfw.version import __version__ as __version__

_HOME = {
    "api": ["Backend", "Callback", "Dataset", "Model", "Plugin", "Tracker", "hookimpl"],
    "checkpoints": ["Snapshot", "checkpoint_steps", "read_checkpoint", "remove_checkpoint"],
    "data": ["Affine", "DataSpec", "Preprocessed", "Split", "Splits"],
    "errors": [
        "ApiWarning",
        "ConfigError",
        "DataError",
        "ExpfwError",
        "JournalError",
        "NotFoundError",
        "PluginError",
        "RunsFolderError",
        "TrainingError",
    ],
    "model_state": ["ModelState"],
    "model_summary": ["Layer", "ModelSummary"],
    "python_interface": ["run", "sweep"],
    "recorded_run": ["RecordedRun", "load"],
    "run_state": ["Point", "Result", "Run"],
    "options": ["option"],
    "settings": ["Every", "Objective", "Optimizer", "RunConfig", "Schedule", "Train"],
    "saved_model": ["SavedModel", "load_model"],
    "sweep_result": ["SweepResult", "load_sweep"],
    "user_interface": ["Shown", "UserInterface"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted([*_MODULE_OF, "API_VERSION", "__version__"])  # noqa: PLE0605  # the stub below says the same to type checkers


def __getattr__(name: str) -> Any:  # what is used is imported, so that `import expfw` is quick
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'expfw' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"expfw.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from expfw.api import Backend as Backend
    from expfw.api import Callback as Callback
    from expfw.api import Dataset as Dataset
    from expfw.api import Model as Model
    from expfw.api import Plugin as Plugin
    from expfw.api import Tracker as Tracker
    from expfw.api import hookimpl as hookimpl
    from expfw.checkpoints import Snapshot as Snapshot
    from expfw.checkpoints import checkpoint_steps as checkpoint_steps
    from expfw.checkpoints import read_checkpoint as read_checkpoint
    from expfw.checkpoints import remove_checkpoint as remove_checkpoint
    from expfw.data import Affine as Affine
    from expfw.data import DataSpec as DataSpec
    from expfw.data import Preprocessed as Preprocessed
    from expfw.data import Split as Split
    from expfw.data import Splits as Splits
    from expfw.errors import ApiWarning as ApiWarning
    from expfw.errors import ConfigError as ConfigError
    from expfw.errors import DataError as DataError
    from expfw.errors import ExpfwError as ExpfwError
    from expfw.errors import JournalError as JournalError
    from expfw.errors import NotFoundError as NotFoundError
    from expfw.errors import PluginError as PluginError
    from expfw.errors import RunsFolderError as RunsFolderError
    from expfw.errors import TrainingError as TrainingError
    from expfw.model_state import ModelState as ModelState
    from expfw.model_summary import Layer as Layer
    from expfw.model_summary import ModelSummary as ModelSummary
    from expfw.options import option as option
    from expfw.python_interface import run as run
    from expfw.python_interface import sweep as sweep
    from expfw.recorded_run import RecordedRun as RecordedRun
    from expfw.recorded_run import load as load
    from expfw.run_state import Point as Point
    from expfw.run_state import Result as Result
    from expfw.run_state import Run as Run
    from expfw.saved_model import SavedModel as SavedModel
    from expfw.saved_model import load_model as load_model
    from expfw.settings import Every as Every
    from expfw.settings import Objective as Objective
    from expfw.settings import Optimizer as Optimizer
    from expfw.settings import RunConfig as RunConfig
    from expfw.settings import Schedule as Schedule
    from expfw.settings import Train as Train
    from expfw.sweep_result import SweepResult as SweepResult
    from expfw.sweep_result import load_sweep as load_sweep
    from expfw.user_interface import Shown as Shown
    from expfw.user_interface import UserInterface as UserInterface
