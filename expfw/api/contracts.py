"""The contracts: base classes of models, backends, callbacks, datasets and trackers.

A plugin is one class. It subclasses one of the five kinds below, declares its options in a nested dataclass `Config`,
and overrides the few methods of its kind. Each base class turns these methods into hooks (see `expfw.api.hookspecs`). A
plugin may implement any other hook itself, marked with `expfw.hookimpl`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import pluggy

from expfw.api import data_cache
from expfw.api.data import DataSpec, Splits
from expfw.api.delivery_progress import read_progress
from expfw.api.model_state import ModelState
from expfw.api.model_summary import ModelSummary
from expfw.api.result import Result
from expfw.api.run import Run
from expfw.api.run_config import RunConfig

hookimpl = pluggy.HookimplMarker("expfw")
log = logging.getLogger("expfw")


def _call_method(method: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the implementation of a hook that calls a method of the plugin with the same arguments."""

    @hookimpl
    @wraps(method)
    def call(self: Plugin, *arguments: Any) -> Any:
        return getattr(self, method.__name__)(*arguments)

    return call


@dataclass
class NoOptions:
    """The `Config` of a plugin without options."""


class Plugin:
    """Base class of the five kinds.

    Attributes:
        Config: dataclass that defines the plugin's options.
        config: validated instance of `Config`, built from the user's configuration.
        name: name of the plugin, as in `model=NAME`; set by expfw.
        preload: modules to import before the plugin is needed: in the fork server of a sweep, or in the shipper process
            for a tracker. They must not use a device on import.
        export_formats: formats that the plugin's `expfw_export` supports.
    """

    kind: ClassVar[str]
    Config: ClassVar[type] = NoOptions
    preload: Sequence[str] = ()
    export_formats: ClassVar[Sequence[str]] = ()

    def __init__(self, config: Any, name: str) -> None:
        self.config = config
        self.name = name


class Dataset(Plugin):
    """Loads data as NumPy arrays, without a framework.

    If `identity` is not empty, the result of `load` is cached on disk and memory-mapped by later runs.

    Attributes:
        uses_seed: whether the result of `load` depends on the seed.
    """

    kind = "dataset"
    uses_seed: ClassVar[bool] = True

    def load(self, seed: int) -> Splits:
        """Reads and preprocesses all splits.

        Args:
            seed: seed of the run, for generated data. The seed of a random split is an option of the dataset.

        Raises:
            DataError: if a file is missing or invalid.
        """
        raise NotImplementedError

    def identity(self) -> Mapping[str, Any]:
        """Returns a cheap description that identifies the data: paths, sizes, modification times.

        It is part of the run's fingerprint, which identifies configuration, data and code. If it is empty, `load` is
        called in every run.
        """
        return {}

    @hookimpl
    def expfw_load_data(self, config: RunConfig) -> Splits:
        identity, seed = self.identity(), config.seed if self.uses_seed else None
        key = data_cache.compute_key(type(self), self.config, identity, seed) if identity else None
        return data_cache.load_with_cache(lambda: self.load(config.seed), key, Path(config.runs_dir), config.cache_gib)


class Model(Plugin):
    """Builds the model."""

    kind = "model"

    def build(self, data: DataSpec) -> Any:
        """Builds the untrained model and creates its variables.

        Returns:
            A compiled `keras.Model`, or a `tf.Module` with `predict_step(x)`, `test_step((x, y))` and `optimizer`, a
            Keras optimizer. `test_step` returns a dict of scalar tensors: `loss` and any metrics, each a mean over the
            samples of the batch. A training step computes the gradient of that loss and applies the optimizer. A module
            that also has `train_step((x, y))`, which returns such a dict, is trained with that method instead.

        Raises:
            ConfigError: if the options do not fit the data.
        """
        raise NotImplementedError

    @hookimpl
    def expfw_build_model(self, data: Splits) -> Any:
        return self.build(data.spec)


class Backend(Plugin):
    """Trains a model on devices.

    Attributes:
        several_processes: whether a run needs several processes, each started by a separate command.
        on_gpus: whether the backend uses GPUs if available; each trial of a sweep then gets a GPU.
    """

    kind = "backend"
    several_processes: ClassVar[bool] = False
    on_gpus: ClassVar[bool] = False

    def role(self) -> str:
        """Returns the role of this process. Called first, before any framework is imported.

        Returns:
            `run`: executes and records the run; exactly one process of a run has this role. `follow`: takes part in the
            run and records nothing. `serve`: computes for the other processes, see `serve`.
        """
        return "run"

    def serve(self, config: RunConfig) -> None:
        """Computes for the other processes of the run until they have finished."""
        raise NotImplementedError

    def prepare(self, config: RunConfig, run: Run) -> None:
        """Sets up the framework: threads, devices, precision, seeds. Called before the model is built.

        If `run.training` is False, a saved model is loaded for prediction: use any device and do not wait for other
        processes.
        """

    def scope(self) -> AbstractContextManager[Any]:
        """Returns a context manager in which the model's variables are created."""
        return nullcontext()

    def fit(self, config: RunConfig, run: Run, model: Any, data: Splits) -> Result:
        """Trains, evaluates and tests the model.

        Logs metrics with `run.log` and calls the observing hooks of `run.hook`. Calls `run.safe_point()` after one or
        more steps, after all other hooks. If `run.checkpoint` is not None, resumes from it. Tests the weights that
        `run.test_on` names and leaves them in the model; if they are not the last ones, sets `run.model_step`, and logs
        `test/*` at this step.
        """
        raise NotImplementedError

    def describe(self, model: Any) -> Mapping[str, Any]:
        """Returns properties of a model, at least `parameters`, the number of trainable parameters."""
        raise NotImplementedError

    def summary(self, config: RunConfig, model: Any, data: Splits) -> ModelSummary:
        """Returns layers, parameters, FLOPs and memory of a model, computed without training it."""
        raise NotImplementedError

    def unsaved_random(self, model: Any, data: Splits) -> Sequence[str]:
        """Returns the names of random operations of a training step whose state `save` does not return."""
        return ()

    def variables(self, model: Any) -> Mapping[str, Any]:
        """Returns the trainable variables by name, as NumPy arrays."""
        raise NotImplementedError

    def gradients(self, model: Any) -> Mapping[str, Any]:
        """Returns the gradients of the last step under the names of `variables`; empty without `run.keep_gradients`."""
        raise NotImplementedError

    def predict(self, model: Any, x: Any) -> Any:
        """Returns outputs `(n, ...)` for preprocessed samples `(n, *input_shape)`: NumPy arrays, or dicts of them."""
        raise NotImplementedError

    def save(self, model: Any, training: bool) -> ModelState:
        """Returns a copy of the weights (arrays `weights/...`); if `training`, also all other state to resume from."""
        raise NotImplementedError

    def restore(self, model: Any, state: ModelState, training: bool) -> None:
        """Restores a state returned by `save` into a model built like the saved one.

        Raises:
            JournalError: if the state belongs to a different model.
        """
        raise NotImplementedError

    @hookimpl(wrapper=True)
    def expfw_build_model(self, config: RunConfig, run: Run) -> Iterator[None]:
        self.prepare(config, run)
        with self.scope():
            return (yield)

    expfw_fit = _call_method(fit)
    expfw_describe = _call_method(describe)
    expfw_summary = _call_method(summary)
    expfw_unsaved_random = _call_method(unsaved_random)
    expfw_variables = _call_method(variables)
    expfw_gradients = _call_method(gradients)
    expfw_predict = _call_method(predict)
    expfw_save = _call_method(save)

    @hookimpl
    def expfw_restore(self, model: Any, state: ModelState, training: bool) -> bool:
        self.restore(model, state, training)
        return True


class Callback(Plugin):
    """Observes a run through hooks, and may stop it.

    If an observing hook raises an exception, expfw reports it, disables that hook for the rest of the run and continues
    the training.
    """

    kind = "callback"

    def state(self) -> Mapping[str, Any]:
        """Returns the state needed to resume exactly, as plain JSON values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores the values of `state`. Called after `expfw_run_started` if the run is resumed."""


class Tracker(Plugin):
    """Delivers runs and sweeps to a tracking server or file, in the shipper process, not in the training process."""

    kind = "tracker"

    def destination(self, runs_dir: Path) -> str:
        """Returns the address or file that the tracker writes to. Does not connect."""
        return ""

    def open(self, runs_dir: Path) -> None:
        """Connects to the destination. Called once per shipper process, and again later if it raises an exception."""

    def ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Delivers the next records of one journal, in order.

        Args:
            folder: folder of the run or sweep; the `path` of an artifact is relative to it.
            state: the tracker's state for this journal and destination (JSON values), for example the ID of the remote
                run. It is stored together with the delivery position. If the destination rejects some data permanently
                and you omit it, set `state["rejected"]` to one line about it; the command prints this line at its end.
            records: next records; docs/reference/journal.md lists their kinds. After a crash, the last batch may be
                delivered again; with `expfw runs sync --all`, all records. Check which records already exist.

        If `ship` raises an exception, the same records are delivered again later and nothing is lost. Raise
        `ConnectionError` if the destination is not available: no journal is delivered to it until it is available
        again. Raise `LookupError` if another journal must be delivered first: these records are retried after it has
        advanced.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connection. Called once before the shipper process ends."""

    def read_state(self, folder: Path) -> dict[str, Any]:
        """Returns the saved `state` of `ship` for the run or sweep in `folder`, for example of the sweep of a trial.

        It is empty before a delivery, and if its file is damaged.
        """
        return read_progress(folder, self.name).state
