"""The contracts: what a model, backend, callback, dataset or tracker is.

A plugin is one class. It subclasses one of the five below, says its options in a nested dataclass `Config`, and
overrides the few methods its kind has. Each base class turns these methods into hooks (see `expfw.api.hookspecs`); a
plugin may implement any other hook itself, marked with `expfw.hookimpl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pluggy

from expfw.api import data_cache
from expfw.api.data import DataSpec, Splits
from expfw.api.model_state import ModelState
from expfw.api.model_summary import ModelSummary
from expfw.api.run import Result, Run
from expfw.api.run_config import RunConfig

hookimpl = pluggy.HookimplMarker("expfw")


@dataclass
class NoOptions:
    """The `Config` of a plugin without options."""


class Plugin:
    """What the five kinds share.

    Attributes:
        Config: a dataclass, the one truth about the plugin's options.
        config: the instance of it that the user's configuration made, checked.
        name: the option name, as in `model=NAME`; the host sets it.
        preload: modules that a process imports before it needs the plugin: the one that trials are forked from, for a
            tracker the shipper. None of them may touch a device on import.
        export_formats: what it answers `expfw_export` for.
    """

    kind: ClassVar[str]
    Config: ClassVar[type] = NoOptions
    preload: Sequence[str] = ()
    export_formats: ClassVar[Sequence[str]] = ()

    def __init__(self, config: Any, name: str) -> None:
        self.config = config
        self.name = name


class Dataset(Plugin):
    """Loads data. Needs no framework: NumPy arrays in, NumPy arrays out.

    What `load` returns is kept on disk and read by memory map the next time, where `identity` tells it from others.

    Attributes:
        uses_seed: whether `load` returns other data for another seed.
    """

    kind = "dataset"
    uses_seed: ClassVar[bool] = True

    def load(self, seed: int) -> Splits:
        """Reads and preprocesses everything.

        Args:
            seed: the run's seed, for data that are made; the split has a seed of its own among the options.

        Raises:
            DataError: a file is absent, or not what it should be.
        """
        raise NotImplementedError

    def identity(self) -> Mapping[str, Any]:
        """What tells these data from others, cheaply: paths, sizes, times of change. Part of a run's fingerprint.

        Where it is empty, `load` is called in every run.
        """
        return {}

    @hookimpl
    def expfw_load_data(self, config: RunConfig) -> Splits:
        identity, seed = self.identity(), config.seed if self.uses_seed else None
        key = data_cache.compute_key(type(self), self.config, identity, seed) if identity else None
        return data_cache.load_with_cache(lambda: self.load(config.seed), key, Path(config.runs_dir), config.cache_gib)


class Model(Plugin):
    """Builds what is trained."""

    kind = "model"

    def build(self, data: DataSpec) -> Any:
        """Makes the model, untrained, its variables created.

        Returns:
            A compiled `keras.Model`, of any kind. Or a `tf.Module` with `predict_step(x)`, with `test_step((x, y))`
            that returns a dict of scalar tensors, means over the samples of that batch, with `loss` among them, and
            with `optimizer`, a Keras optimizer: a training step is the gradient of that loss, then the optimizer. A
            module with a `train_step((x, y))` of its own, returning such a dict too, is trained by that.

        Raises:
            ConfigError: the options do not fit these data.
        """
        raise NotImplementedError

    @hookimpl
    def expfw_build_model(self, data: Splits) -> Any:
        return self.build(data.spec)


class Backend(Plugin):
    """Trains a model on devices.

    Attributes:
        several_processes: whether a run takes several processes, each started by a command of its own.
        on_gpus: whether it computes on GPUs, where there are any; each trial of a sweep then gets its own.
    """

    kind = "backend"
    several_processes: ClassVar[bool] = False
    on_gpus: ClassVar[bool] = False

    def role(self) -> str:
        """What this process does; asked first, before any framework is imported.

        Returns:
            `run`: it makes the run and keeps its record. Of the processes of one run, one does. `follow`: it makes the
            same run with others and keeps nothing. `serve`: it computes for others, see `serve`.
        """
        return "run"

    def serve(self, config: RunConfig) -> None:
        """Computes for others until they are done."""
        raise NotImplementedError

    def prepare(self, config: RunConfig, run: Run) -> None:
        """Makes the framework ready: threads, devices, precision, seeds. Called before the model is built.

        Where `run.training` is False, a saved model is loaded to predict: any device will do, nobody is waited for.
        """

    def scope(self) -> AbstractContextManager[Any]:
        """Context in which the model's variables are made."""
        return nullcontext()

    def fit(self, config: RunConfig, run: Run, model: Any, data: Splits) -> Result:
        """Trains, evaluates and tests; logs through `run.log`, calls the observing hooks of `run.hook`.

        After each step, or some, when all hooks are through, it calls `run.safe_point()`. Where `run.checkpoint` is
        given, it goes on from there.
        """
        raise NotImplementedError

    def describe(self, model: Any) -> Mapping[str, Any]:
        """Facts about a model: at least `parameters`, the number of trainable ones."""
        raise NotImplementedError

    def summary(self, config: RunConfig, model: Any, data: Splits) -> ModelSummary:
        """What a model is made of, in numbers, found without training it."""
        raise NotImplementedError

    def unsaved_random(self, model: Any, data: Splits) -> Sequence[str]:
        """Names of operations of a training step that draw from a random state which `save` does not have."""
        return ()

    def variables(self, model: Any) -> Mapping[str, Any]:
        """The trained variables by name, NumPy arrays."""
        raise NotImplementedError

    def gradients(self, model: Any) -> Mapping[str, Any]:
        """The gradients of the last step, by the same names; empty where `run.keep_gradients` was not set."""
        raise NotImplementedError

    def predict(self, model: Any, x: Any) -> Any:
        """Preprocessed samples `(n, *input_shape)` to a NumPy array of outputs `(n, ...)`, or dictionaries of both."""
        raise NotImplementedError

    def save(self, model: Any, training: bool) -> ModelState:
        """A copy of the weights (arrays `weights/...`), and with `training` of all that continuing needs."""
        raise NotImplementedError

    def restore(self, model: Any, state: ModelState, training: bool) -> None:
        """Takes back what `save` gave, into a model that was built the same way.

        Raises:
            JournalError: it is the state of another model.
        """
        raise NotImplementedError

    @hookimpl(wrapper=True)
    def expfw_build_model(self, config: RunConfig, run: Run) -> Iterator[None]:
        self.prepare(config, run)
        with self.scope():
            return (yield)

    @hookimpl
    def expfw_fit(self, config: RunConfig, run: Run, model: Any, data: Splits) -> Result:
        return self.fit(config, run, model, data)

    @hookimpl
    def expfw_describe(self, model: Any) -> Mapping[str, Any]:
        return self.describe(model)

    @hookimpl
    def expfw_summary(self, config: RunConfig, model: Any, data: Splits) -> ModelSummary:
        return self.summary(config, model, data)

    @hookimpl
    def expfw_unsaved_random(self, model: Any, data: Splits) -> Sequence[str]:
        return self.unsaved_random(model, data)

    @hookimpl
    def expfw_variables(self, model: Any) -> Mapping[str, Any]:
        return self.variables(model)

    @hookimpl
    def expfw_gradients(self, model: Any) -> Mapping[str, Any]:
        return self.gradients(model)

    @hookimpl
    def expfw_predict(self, model: Any, x: Any) -> Any:
        return self.predict(model, x)

    @hookimpl
    def expfw_save(self, model: Any, training: bool) -> ModelState:
        return self.save(model, training)

    @hookimpl
    def expfw_restore(self, model: Any, state: ModelState, training: bool) -> bool:
        self.restore(model, state, training)
        return True


class Callback(Plugin):
    """Watches a run through the observing hooks, and may ask it to stop.

    An exception in an observing hook is reported and ends that hook for this run, never the run.
    """

    kind = "callback"

    def state(self) -> Mapping[str, Any]:
        """What must be kept for an exact continuation, as plain JSON values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave; called after `expfw_run_started`, where a run goes on."""


class Tracker(Plugin):
    """Writes the record of runs and sweeps to where people compare them. Lives in the shipper, not in training."""

    kind = "tracker"

    def destination(self, runs_dir: Path) -> str:
        """Where it writes, told from other places it could write to: an address, a file. Connects to nothing."""
        return ""

    def open(self, runs_dir: Path) -> None:
        """Connects, once in a shipper's life. An exception means: not now; it is called again later."""

    def ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Delivers the next records of one journal, in order.

        Args:
            folder: the run's or sweep's folder; the `path` of an artifact is relative to it.
            state: this tracker's memory about this journal and destination (JSON values), kept durably together with
                how far the journal is delivered; put the id of the remote run here. Under `refused`, one line on what
                the destination refuses for good, so that it was left out: the command shows it at its end.
            records: see docs/reference/journal.md for the kinds. After a crash the last batch may come a second time,
                and where somebody asks for it all of them: look first what is there.

        An exception means that nothing is lost: the same records come again later. Raise ConnectionError where nothing
        can be delivered, whatever the journal: then no other one is tried meanwhile; LookupError where another journal
        has to come first: then these come again as soon as that one went on.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Called once before the shipper ends."""
