"""expfw: plugin-based experiment tracking. Contains all public names."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from expfw.version import API_VERSION as API_VERSION
from expfw.version import __version__ as __version__

_EXPORTS = {
    "api.checkpoints": ["Snapshot", "checkpoint_steps", "read_checkpoint", "remove_checkpoint"],
    "api.contracts": ["Backend", "Callback", "Dataset", "Model", "Plugin", "Tracker", "hookimpl"],
    "api.data": ["DataSpec", "Split", "Splits"],
    "api.model_state": ["ModelState"],
    "api.model_summary": ["Layer", "ModelSummary"],
    "api.optimizer": ["Optimizer", "Schedule"],
    "api.options": ["option"],
    "api.preprocessing": ["AffineScaling", "Preprocessed"],
    "api.result": ["Point", "Result"],
    "api.run": ["Run"],
    "api.run_config": ["Every", "Objective", "RunConfig", "Train"],
    "api.user_interface": ["UiTarget", "UserInterface"],
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
    "experiment": ["run", "sweep"],
    "runs.recorded_run": ["RecordedRun", "load"],
    "runs.saved_model": ["SavedModel", "load_model"],
    "sweeps.result": ["SweepResult", "load_sweep"],
}
_MODULE_BY_NAME = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = sorted([*_MODULE_BY_NAME, "API_VERSION", "__version__"])  # noqa: PLE0605  # type checkers use the imports below


def __getattr__(name: str) -> Any:  # imports on first use, so that `import expfw` is fast
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module 'expfw' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"expfw.{_MODULE_BY_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from expfw.api.checkpoints import Snapshot as Snapshot
    from expfw.api.checkpoints import checkpoint_steps as checkpoint_steps
    from expfw.api.checkpoints import read_checkpoint as read_checkpoint
    from expfw.api.checkpoints import remove_checkpoint as remove_checkpoint
    from expfw.api.contracts import Backend as Backend
    from expfw.api.contracts import Callback as Callback
    from expfw.api.contracts import Dataset as Dataset
    from expfw.api.contracts import Model as Model
    from expfw.api.contracts import Plugin as Plugin
    from expfw.api.contracts import Tracker as Tracker
    from expfw.api.contracts import hookimpl as hookimpl
    from expfw.api.data import DataSpec as DataSpec
    from expfw.api.data import Split as Split
    from expfw.api.data import Splits as Splits
    from expfw.api.model_state import ModelState as ModelState
    from expfw.api.model_summary import Layer as Layer
    from expfw.api.model_summary import ModelSummary as ModelSummary
    from expfw.api.optimizer import Optimizer as Optimizer
    from expfw.api.optimizer import Schedule as Schedule
    from expfw.api.options import option as option
    from expfw.api.preprocessing import AffineScaling as AffineScaling
    from expfw.api.preprocessing import Preprocessed as Preprocessed
    from expfw.api.result import Point as Point
    from expfw.api.result import Result as Result
    from expfw.api.run import Run as Run
    from expfw.api.run_config import Every as Every
    from expfw.api.run_config import Objective as Objective
    from expfw.api.run_config import RunConfig as RunConfig
    from expfw.api.run_config import Train as Train
    from expfw.api.user_interface import UiTarget as UiTarget
    from expfw.api.user_interface import UserInterface as UserInterface
    from expfw.errors import ApiWarning as ApiWarning
    from expfw.errors import ConfigError as ConfigError
    from expfw.errors import DataError as DataError
    from expfw.errors import ExpfwError as ExpfwError
    from expfw.errors import JournalError as JournalError
    from expfw.errors import NotFoundError as NotFoundError
    from expfw.errors import PluginError as PluginError
    from expfw.errors import RunsFolderError as RunsFolderError
    from expfw.errors import TrainingError as TrainingError
    from expfw.experiment import run as run
    from expfw.experiment import sweep as sweep
    from expfw.runs.recorded_run import RecordedRun as RecordedRun
    from expfw.runs.recorded_run import load as load
    from expfw.runs.saved_model import SavedModel as SavedModel
    from expfw.runs.saved_model import load_model as load_model
    from expfw.sweeps.result import SweepResult as SweepResult
    from expfw.sweeps.result import load_sweep as load_sweep
