"""All hooks, with call time and return value.

Providing hooks return a result. The selected plugins implement them, and any other plugin may wrap them
(`@expfw.hookimpl(wrapper=True)`). With `firstresult=True`, the first result that is not None counts; otherwise the
results of all plugins count. Observing hooks return nothing. Every plugin that implements one is called, callbacks in
the order of the configuration. If an observing hook raises an exception, expfw reports it and the run continues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pluggy

from expfw.api.data import DataSpec, Splits
from expfw.api.model_state import ModelState
from expfw.api.model_summary import ModelSummary
from expfw.api.result import Result
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.api.user_interface import UiTarget, UserInterface

# Deprecated hooks are marked here with `@hookspec(warn_on_impl=ApiWarning("..."))`, deprecated arguments with
# `warn_on_impl_args={"name": ApiWarning("...")}`. See docs/authors/plugin-api.md.
hookspec = pluggy.HookspecMarker("expfw")


class Providers:
    """Hooks that return a result."""

    @hookspec(firstresult=True)
    def expfw_load_data(self, config: RunConfig, run: Run) -> Splits:
        """Called first in a run, before any framework is imported. Returns the data."""

    @hookspec(firstresult=True)
    def expfw_build_model(self, config: RunConfig, run: Run, data: Splits) -> Any:
        """Called after the data is loaded. Returns the untrained model. Backends wrap this hook to prepare devices."""

    @hookspec(firstresult=True)
    def expfw_fit(self, config: RunConfig, run: Run, model: Any, data: Splits) -> Result:
        """Called with the built model. Trains it, calls the observing hooks and returns `run.result()`."""

    @hookspec
    def expfw_keras_callbacks(self, run: Run, model: Any) -> list[Any]:
        """Called before the first step. Returns `keras.callbacks.Callback` objects to use in the training."""

    @hookspec(firstresult=True)
    def expfw_describe(self, model: Any) -> Mapping[str, Any]:
        """Called after the model is built. Returns properties of the model, at least `parameters`."""

    @hookspec(firstresult=True)
    def expfw_summary(self, config: RunConfig, model: Any, data: Splits) -> ModelSummary:
        """Called by `expfw show` after the model is built. Returns its layers, parameters, FLOPs and memory."""

    @hookspec(firstresult=True)
    def expfw_unsaved_random(self, model: Any, data: Splits) -> Sequence[str]:
        """Called by `expfw show` and the contracts of `expfw.testing`. Returns the operations of a training step that
        draw random numbers from a state that checkpoints do not contain."""

    @hookspec(firstresult=True)
    def expfw_variables(self, model: Any) -> Mapping[str, Any]:
        """Called to inspect a model. Returns its trainable variables by name, as NumPy arrays."""

    @hookspec(firstresult=True)
    def expfw_gradients(self, model: Any) -> Mapping[str, Any]:
        """Called in observing hooks if `run.keep_gradients` was set before the first step. Returns the gradients of the
        last step under the names of `expfw_variables`, as NumPy arrays, before clipping."""

    @hookspec(firstresult=True)
    def expfw_predict(self, model: Any, x: Any) -> Any:
        """Called with preprocessed samples `(n, *input_shape)`. Returns outputs `(n, ...)` as NumPy arrays."""

    @hookspec(firstresult=True)
    def expfw_save(self, model: Any, training: bool) -> ModelState:
        """Called for each checkpoint (`training=True`) and saved model. Returns a copy of the model's state."""

    @hookspec(firstresult=True)
    def expfw_restore(self, model: Any, state: ModelState, training: bool) -> bool:
        """Called with a model built like the saved one. Restores a state from `expfw_save` and returns True."""

    @hookspec(firstresult=True)
    def expfw_evaluate(
        self, config: RunConfig, model: Any, data: Splits, splits: Sequence[str]
    ) -> Mapping[str, Mapping[str, float]]:
        """Called by `expfw runs evaluate` with a loaded saved model. Returns the loss and the metrics of each split in
        `splits`, computed in the same way as at the end of a run. Does not change the weights."""

    @hookspec(firstresult=True)
    def expfw_export(self, model: Any, data: DataSpec, path: Path, format: str) -> bool | Callable[[Any], Any]:
        """Called by `expfw runs export` to write a model to `path` in a format of its framework. The written model
        takes raw samples. Returns a function that loads the written model and maps raw samples to outputs, for
        comparison with the original model; True if no such function exists; None if the format is unknown."""

    @hookspec(firstresult=True)
    def expfw_ui(self, runs_dir: Path, host: str, port: int, show: UiTarget | None) -> UserInterface:
        """Called by `expfw ui`. Returns the command that serves the tracker's user interface at `host` and `port`, and
        the URL of its page for `show`, the requested run or sweep."""

    @hookspec(firstresult=True)
    def expfw_delete(self, runs_dir: Path, ids: list[str]) -> bool:
        """Called when runs or sweeps are deleted. Deletes their data from the tracker and returns True."""

    @hookspec
    def expfw_doctor(self, runs_dir: Path) -> list[tuple[str, bool, str]]:
        """Called by `expfw doctor` in a separate process. Returns `(finding, ok, advice)` for each requirement of the
        plugin. The advice explains how to fix a problem; if `ok` is True, it is a note or empty."""


class Observers:
    """Hooks that observe; every plugin that implements one is called."""

    @hookspec
    def expfw_run_started(self, run: Run, data: Splits, model: Any) -> None:
        """Called once, after data and model are ready and before the first step."""

    @hookspec
    def expfw_steps_ended(self, run: Run) -> None:
        """Called after each call of the engine, which runs many steps. `run.recent_points` contains the new points."""

    @hookspec
    def expfw_evaluated(self, run: Run) -> None:
        """Called after each evaluation on the validation data. `run.metrics` contains the new `val/*` metrics."""

    @hookspec
    def expfw_epoch_ended(self, run: Run) -> None:
        """Called at the end of each epoch, after its evaluation. `run.metrics` contains the new `train/epoch_*`
        metrics."""

    @hookspec
    def expfw_safe_point(self, run: Run) -> None:
        """Called after each call of the engine, after all other hooks, when the state of the run is complete. A run
        that resumes from a snapshot taken here (`run.snapshot`) is bit-identical to an uninterrupted run."""

    @hookspec
    def expfw_checkpoint_saved(self, run: Run, path: Path) -> None:
        """Called when a checkpoint is complete on disk. Checkpoints are written in parallel with the training, so this
        happens at a later step."""

    @hookspec
    def expfw_run_ended(self, run: Run, result: Result) -> None:
        """Called once when the run has ended, with any status; see `result.status`."""

    @hookspec
    def expfw_sweep_started(self, sweep_id: str, folder: Path, trials: int) -> None:
        """Called in the main process of a sweep, before the first trial. `trials` is the number of trials."""

    @hookspec
    def expfw_trial_started(self, sweep_id: str, trial: Mapping[str, Any]) -> None:
        """Called in the main process of a sweep when a trial starts. `trial` is its entry in the ledger: number,
        overrides, status, result and others."""

    @hookspec
    def expfw_trial_ended(self, sweep_id: str, trial: Mapping[str, Any]) -> None:
        """Called in the main process of a sweep when a trial has ended. `trial` is its entry in the ledger, as in
        `expfw_trial_started`."""

    @hookspec
    def expfw_sweep_ended(self, sweep_id: str, folder: Path, add_artifact: Callable[[Path], None]) -> None:
        """Called in the main process of a sweep, after the last trial. `add_artifact` sends a file or folder inside
        `folder` to the trackers."""
