"""Every hook, on one page: when it is called, and what to return.

Providing hooks are answered by the chosen plugin, the first answer counts, and any other plugin may wrap them
(`@expfw.hookimpl(wrapper=True)`). Observing hooks are told to everybody who implements them, callbacks in the order of
the configuration; an exception there is reported and costs the run nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pluggy

from expfw.api.data import DataSpec, Splits
from expfw.api.model_state import ModelState
from expfw.api.model_summary import ModelSummary
from expfw.api.run import Result, Run
from expfw.api.run_config import RunConfig
from expfw.api.user_interface import UiTarget, UserInterface

"""What goes away is marked here: `@hookspec(warn_on_impl=ApiWarning("..."))` for a hook, `warn_on_impl_args={"name":
ApiWarning("...")}` for an argument. See docs/authors/plugin-api.md."""
hookspec = pluggy.HookspecMarker("expfw")


class Providers:
    """One plugin answers."""

    @hookspec(firstresult=True)
    def expfw_load_data(self, config: RunConfig, run: Run) -> Splits:
        """Called first in a run, before any framework is imported: return the data."""

    @hookspec(firstresult=True)
    def expfw_build_model(self, config: RunConfig, run: Run, data: Splits) -> Any:
        """Called once the data are there: return the model, untrained. Backends wrap it to prepare devices."""

    @hookspec(firstresult=True)
    def expfw_fit(self, config: RunConfig, run: Run, model: Any, data: Splits) -> Result:
        """Called with the built model: train it, calling the observing hooks; return `run.result()`."""

    @hookspec
    def expfw_keras_callbacks(self, run: Run, model: Any) -> list[Any]:
        """Called before the first step: return `keras.callbacks.Callback` objects that take part in the training."""

    @hookspec(firstresult=True)
    def expfw_describe(self, model: Any) -> Mapping[str, Any]:
        """Called after building: return facts about the model, at least `parameters`."""

    @hookspec(firstresult=True)
    def expfw_summary(self, config: RunConfig, model: Any, data: Splits) -> ModelSummary:
        """Called by `expfw show` after building: return what the model is made of, in numbers."""

    @hookspec(firstresult=True)
    def expfw_unsaved_random(self, model: Any, data: Splits) -> Sequence[str]:
        """Called by `expfw show` and the contracts: return the operations of a training step that draw random numbers
        from a state which no checkpoint has."""

    @hookspec(firstresult=True)
    def expfw_variables(self, model: Any) -> Mapping[str, Any]:
        """Called to look at a model: return its trained variables by name, NumPy arrays."""

    @hookspec(firstresult=True)
    def expfw_gradients(self, model: Any) -> Mapping[str, Any]:
        """Called in observing hooks, where `run.keep_gradients` was set before the first step: return the gradients of
        the last step by the same names, NumPy arrays, as they were before being clipped and applied."""

    @hookspec(firstresult=True)
    def expfw_predict(self, model: Any, x: Any) -> Any:
        """Called with preprocessed samples `(n, *input_shape)`: return outputs `(n, ...)`, NumPy arrays."""

    @hookspec(firstresult=True)
    def expfw_save(self, model: Any, training: bool) -> ModelState:
        """Called for checkpoints (`training`) and saved models: return a copy of what must be kept."""

    @hookspec(firstresult=True)
    def expfw_restore(self, model: Any, state: ModelState, training: bool) -> bool:
        """Called with a model built the same way: take back what `expfw_save` returned, return True."""

    @hookspec(firstresult=True)
    def expfw_evaluate(
        self, config: RunConfig, model: Any, data: Splits, splits: Sequence[str]
    ) -> Mapping[str, Mapping[str, float]]:
        """Called by `expfw runs evaluate` with a saved model that was loaded: return, for each of `splits`, the loss
        and the metrics as the end of a run measures them, and leave the weights as they are."""

    @hookspec(firstresult=True)
    def expfw_export(self, model: Any, data: DataSpec, path: Path, format: str) -> bool | Callable[[Any], Any]:
        """Called by `expfw runs export` to write a model to `path` in a format of its framework, such that it takes raw
        samples: return a function from these to outputs, loaded from what was written, to be compared with the model;
        True where there is none; None for a format you do not know."""

    @hookspec(firstresult=True)
    def expfw_ui(self, runs_dir: Path, host: str, port: int, show: UiTarget | None) -> UserInterface:
        """Called by `expfw ui`: return how to serve the tracker's user interface on that address, and its page for
        `show`, the run or sweep that was asked for."""

    @hookspec(firstresult=True)
    def expfw_delete(self, runs_dir: Path, ids: list[str]) -> bool:
        """Called when runs or sweeps are deleted: delete what the tracker holds of them, return True."""

    @hookspec
    def expfw_doctor(self, runs_dir: Path) -> list[tuple[str, bool, str]]:
        """Called by `expfw doctor`, in a process of its own: return (what was found, fit or not, what to do) for each
        thing you need of the machine; what to do of something that is fit is a note, an empty text nothing."""


class Observers:
    """Everybody is told."""

    @hookspec
    def expfw_run_started(self, run: Run, data: Splits, model: Any) -> None:
        """Called once, when data and model are there and before the first step."""

    @hookspec
    def expfw_steps_ended(self, run: Run) -> None:
        """Called after each call of the engine, many steps at a time; `run.recent_points` holds what was logged."""

    @hookspec
    def expfw_evaluated(self, run: Run) -> None:
        """Called after each evaluation on validation data; `run.metrics` holds the new `val/*`."""

    @hookspec
    def expfw_epoch_ended(self, run: Run) -> None:
        """Called at the end of each epoch, after its evaluation; `run.metrics` holds the new `train/epoch_*`."""

    @hookspec
    def expfw_safe_point(self, run: Run) -> None:
        """Called after each call of the engine and everything that belongs to it, when the state of all is complete:
        what `run.snapshot` gives now can be continued to the bit."""

    @hookspec
    def expfw_checkpoint_saved(self, run: Run, path: Path) -> None:
        """Called when a checkpoint is complete on disk, at some later step, since it is written beside the training."""

    @hookspec
    def expfw_run_ended(self, run: Run, result: Result) -> None:
        """Called once at the end, whatever it was: `result.status` tells."""

    @hookspec
    def expfw_sweep_started(self, sweep_id: str, folder: Path, trials: int) -> None:
        """Called in the process that runs a sweep, before the first of its `trials`."""

    @hookspec
    def expfw_trial_started(self, sweep_id: str, trial: Mapping[str, Any]) -> None:
        """Called in the process that runs a sweep when a trial begins; `trial` is its entry in the ledger."""

    @hookspec
    def expfw_trial_ended(self, sweep_id: str, trial: Mapping[str, Any]) -> None:
        """Called in the process that runs a sweep when a trial has ended; `trial` is its entry in the ledger."""

    @hookspec
    def expfw_sweep_ended(self, sweep_id: str, folder: Path, add_artifact: Callable[[Path], None]) -> None:
        """Called in the process that runs a sweep, after its last trial; `add_artifact` gives a file or folder below
        `folder` to the trackers."""
