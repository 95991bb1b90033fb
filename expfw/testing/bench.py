"""Real runs of a plugin under test, on small data in a separate folder."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn

import pytest

from expfw.api.contracts import Dataset, Model, Plugin
from expfw.api.data import DataSpec, Splits, check_loaded_data, map_parts
from expfw.api.result import FINISHED, Result
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.config.compose import Composition, compose
from expfw.config.overrides import format_overrides
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, ExpfwError, PluginError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.entry import PluginEntry
from expfw.plugins.importing import get_module_name
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.plugins.manager import make_manager
from expfw.runs import exact_comparison
from expfw.runs.one_run import execute
from expfw.runs.request import PreparedRun, prepare_run
from expfw.runs.resume import prepare_resume
from expfw.sweeps import one_sweep
from expfw.testing import small_data
from expfw.testing.observers import RunObserver, interrupt
from expfw.tracking import journal, run_index
from expfw.tracking.recorded_run import read_run
from expfw.tracking.saved_model import load_model

Points = Mapping[tuple[str, int], list[float]]
CHECKPOINT_EVERY_STEPS, INTERRUPT_STEP = 5, 11
"""A run is interrupted in the middle of an epoch, and not at a checkpoint."""


def fail(problem: str, remedy: str, cause: BaseException | None = None) -> NoReturn:
    """Fails a check. If there is a cause, its traceback is printed too."""
    raise pytest.fail.Exception(f"{problem}\n  to fix it: {remedy}", pytrace=cause is not None) from cause


def read_run_points(folder: Path) -> Points:
    """Returns the logged values of a run by metric and step."""
    return exact_comparison.group_points(read_run(folder).points)


class BenchSettings:
    """Base class of the contracts: settings of their runs.

    `resume_remedy` is the advice for a plugin whose resumed run is not bit-identical.
    """

    plugin: ClassVar[type[Plugin]]
    data: ClassVar[DataSpec] = DataSpec((8, 8, 1), 3)
    model: ClassVar[str | type[Model]] = "mlp_keras"
    epochs: ClassVar[int] = 5
    overrides: ClassVar[tuple[str, ...]] = ()
    resume_remedy: ClassVar[str] = (
        "store all state that changes in training in tf.Variables and SeedGenerators that the model tracks; "
        "do not use plain Python attributes or op-level tf.random functions"
    )

    def make_options(self, folder: Path) -> Mapping[str, Any]:
        """Returns options of the plugin."""
        return {}

    def make_run_overrides(self, bench: Bench) -> list[str]:
        """Returns further overrides of the runs."""
        return []


class Bench:
    """Runs of one plugin, executed on demand.

    Attributes:
        catalogue: the installed plugins and those in the plugin's file.
        options_key: dotted key of the plugin's options.
        label: kind and name of the plugin, for messages.
    """

    def __init__(self, contract: type[BenchSettings], folder: Path) -> None:
        self.contract = contract()
        self.folder, self.runs_dir = folder, folder / "runs"
        files = [small_data.__file__, *(file for cls in (contract.plugin, contract.model) for file in _find_file(cls))]
        self.catalogue = get_catalogue(tuple(dict.fromkeys(files)))
        self.entry = self.find_entry(contract.plugin)
        kind, name = self.entry.kind, self.entry.name
        self.options_key = f"{kind}.{name}" if kind in MULTIPLE_KINDS else kind
        self.label = f"{kind} plugin {name!r}"
        (folder / "files").mkdir()
        small_data.write_spec(contract.data, folder / "spec.json")
        self.options: Mapping[str, Any] = self.contract.make_options(folder / "files")
        self._finished_runs: dict[tuple[str, ...], tuple[Result, RunObserver]] = {}

    def fail(self, problem: str, remedy: str, cause: BaseException | None = None) -> NoReturn:
        """Fails a check of the plugin; see `fail`."""
        fail(f"{self.label}: {problem}", remedy, cause)

    def fail_if_any(self, problems: Iterable[object], remedy: str = "see the end of each line") -> None:
        """Fails a check if there are any problems, and prints all of them."""
        if lines := list(map(str, problems)):
            fail("\n".join(lines), remedy)

    def find_entry(self, cls: type[Plugin]) -> PluginEntry:
        """Returns the plugin entry of a class.

        Raises:
            PluginError: if the name of the class is already used.
        """
        (entry,) = (entry for entry in self.catalogue.entries[cls.kind] if _is_entry_of(entry, cls))
        return self.catalogue.get(cls.kind, entry.name)

    def make_config(self, *overrides: str, options: Mapping[str, Any] | None = None) -> RunConfig:
        """Returns the configuration of a short run with the plugin; its `options` may be invalid on purpose."""
        try:
            return compose(self.list_overrides(*overrides, options=options or {}), self.catalogue)
        except ExpfwError as error:
            if options is not None:
                raise
            self.fail(f"the options of the test are rejected: {error}", "set `options` to options of its Config")

    def list_overrides(self, *overrides: str, options: Mapping[str, Any] = MappingProxyType({})) -> list[str]:
        """Returns the overrides of a short run with the plugin and small plugins of the other kinds.

        `overrides` and `options` of the plugin are added; they replace those of the contract.
        """
        kind, name, model = self.entry.kind, self.entry.name, self.contract.model or "mlp_keras"
        choices = {"callback": list(dict.fromkeys(["checkpoint", name])), "tracker": [name]}
        values = {
            "dataset": "small_data",
            "model": model if isinstance(model, str) else self.find_entry(model).name,
            "backend": "tf-cpu",
            "callback": ["checkpoint"],
            "tracker": [],
            kind: choices.get(kind, name),
            "callback.checkpoint.every.steps": CHECKPOINT_EVERY_STEPS,
            "train.epochs": self.contract.epochs,
            "train.batch_size": 8,
            "train.log_every": 1,
            "seed": 3,
            "quiet": True,
            "runs_dir": self.runs_dir,
        }
        if kind != "dataset":
            values["dataset.spec"] = self.folder / "spec.json"
        all_overrides = [*format_overrides(values), *self.contract.overrides]
        if not any(override.startswith(f"{kind}=") for override in overrides):  # otherwise another plugin is used
            all_options = {**self.options, **options}.items()
            all_overrides += format_overrides({f"++{self.options_key}.{name}": value for name, value in all_options})
        return list({override.partition("=")[0]: override for override in [*all_overrides, *overrides]}.values())

    def get_frozen_options(self) -> dict[str, Any]:
        """Returns the plugin's options in a frozen configuration."""
        node = getattr(self.make_config(), self.entry.kind)
        plugin_node = node[self.entry.name] if self.entry.kind in MULTIPLE_KINDS else node
        return {name: value for name, value in plugin_node.items() if name != "plugin"}

    def make_plugin(self, options: Mapping[str, Any] | None = None) -> Any:
        """Returns an instance of the plugin."""
        plugins = make_plugins(self.make_config(options=options), self.catalogue, kinds=(self.entry.kind,))
        return next(plugin for plugin in plugins if plugin.name == self.entry.name)

    def try_options(self, options: Mapping[str, Any]) -> None:
        """Uses the plugin with these options, without training."""
        if self.entry.kind == "model":
            self.build_model(self.make_config(options=options))
            return
        plugin = self.make_plugin(options)
        make_manager([plugin], report=journal.discard_record)
        if isinstance(plugin, Dataset):
            plugin.identity()
            plugin.load(0)

    def build_model(self, config: RunConfig) -> tuple[Any, Splits, Any]:
        """Returns hooks, data and untrained model."""
        self.skip_if_unsupported()
        hook = make_manager(make_plugins(config, self.catalogue), report=journal.discard_record).hook
        run = Run("built", "built", self.folder, config, config.objective, record=journal.discard_record, hook=hook)
        data = check_loaded_data(hook.expfw_load_data(config=config, run=run), config)
        return hook, data, hook.expfw_build_model(config=config, run=run, data=data)

    def run(self, *overrides: str, observer: RunObserver | None = None) -> Result:
        """Executes a run in this process. Runs without an observer are cached."""
        if observer is not None:
            return self._execute(self.prepare_run(*overrides), observer)
        if overrides not in self._finished_runs:
            observer = RunObserver()
            self._finished_runs[overrides] = self._execute(self.prepare_run(*overrides), observer), observer
        return self._finished_runs[overrides][0]

    def _execute(self, prepared: PreparedRun, observer: RunObserver) -> Result:
        try:
            return execute(prepared, [observer])
        except Exception as error:
            if isinstance(error, ConfigError) and getattr(self.contract.plugin, "on_gpus", False):
                pytest.skip(str(error))
            if isinstance(error, ExpfwError):
                self.fail(f"a run is rejected: {error}", "fix this, or set `options` and `data` that it accepts")
            self.fail(f"a run raises {type(error).__name__}: {error}", "see the traceback above", cause=error)

    def prepare_run(self, *overrides: str) -> PreparedRun:
        """Prepares a run."""
        self.skip_if_unsupported()
        config = self.make_config(*self.contract.make_run_overrides(self), *overrides)
        return prepare_run(config, self.catalogue, overrides=overrides)

    def make_predictions(self) -> tuple[Any, Any]:
        """Returns outputs of a trained model when it was saved, and of the saved model for the same raw samples."""
        folder = self.run().folder
        observer = self._finished_runs[()][1]
        raw_samples = map_parts(lambda x, scaling: scaling.inverse(x), observer.samples, observer.preprocessing)
        return observer.outputs, load_model(folder / "model", files=self.catalogue.files).predict(raw_samples)

    @cached_property
    def interrupted_run(self) -> tuple[Path, Points]:
        """Folder of a run that was interrupted at `INTERRUPT_STEP`, and the points that it had logged."""
        self.run()  # fails first if the plugin cannot run
        prepared = self.prepare_run()
        with suppress(KeyboardInterrupt):
            result = self._execute(prepared, RunObserver(INTERRUPT_STEP, interrupt))
            if result.steps < INTERRUPT_STEP:
                problem = f"a run ended at step {result.steps}, before its interruption at step {INTERRUPT_STEP}"
                self.fail(problem, "set `options` so that the runs of the checks are longer")
            remedy = "do not catch BaseException; in a backend, call run.safe_point() after each call of the framework"
            self.fail(f"a run continued although it was interrupted at step {INTERRUPT_STEP}", remedy)
        folder = run_index.find_run(self.runs_dir, prepared.request.id).folder
        return folder, read_run_points(folder)

    @cached_property
    def resumed_run(self) -> tuple[Result, RunObserver]:
        """The interrupted run, resumed."""
        folder, _ = self.interrupted_run
        observer = RunObserver()
        try:
            return execute(prepare_resume(run_index.load(folder, files=self.catalogue.files)), [observer]), observer
        except Exception as error:
            problem = f"a run cannot be resumed: {type(error).__name__}: {error}"
            self.fail(problem, self.contract.resume_remedy, cause=error)

    def run_on_two_replicas(self, *overrides: str) -> Path:
        """Executes a run on two logical processors and returns its folder. Uses another process if necessary."""
        all_overrides = ("backend=mirrored", "backend.cpus=2", *overrides)
        try:
            return execute(self.prepare_run(*all_overrides)).folder
        except ConfigError as error:
            if "already" not in str(error):
                raise
            return self.run_in_trial_process(*all_overrides)

    def run_in_trial_process(self, *overrides: str) -> Path:
        """Executes a run in a trial process, forked from the fork server of a sweep, and returns its folder."""
        run_overrides = self.contract.make_run_overrides(self)
        all_overrides = self.list_overrides(*run_overrides, *overrides, "sweep.slots=1", "sweep.timeout=300")
        (trial,) = one_sweep.run_sweep(Composition(all_overrides, self.catalogue)).trials
        if trial.folder is None or trial.status != FINISHED:
            self.fail(
                f"it does not work in a separate process, as in a trial of a sweep: {trial.error}",
                "import all dependencies in its module, and do not use global state that other processes do not have",
            )
        return Path(trial.folder)

    def skip_if_unsupported(self) -> None:
        """Skips a check for a backend with several processes."""
        if getattr(self.contract.plugin, "several_processes", False):
            pytest.skip(f"{self.label} needs several processes, each started by a separate command")


def _find_file(cls: Any) -> list[str]:
    """Returns the file that defines a plugin class, or nothing if it has an entry point or is not a plugin class.

    The module that is already loaded is used for that file; it is not executed again in this process.

    Raises:
        PluginError: if another process could not import the class from the file.
    """
    if getattr(cls, "kind", None) not in KINDS or any(
        _is_entry_of(entry, cls) for entry in get_catalogue().entries[cls.kind]
    ):
        return []
    file = inspect.getsourcefile(cls)
    if file is None or cls.__qualname__ != cls.__name__:
        raise PluginError(
            f"{cls.__qualname__} is not defined at the top level of a file, so other processes cannot import it; "
            "move it there"
        )
    sys.modules.setdefault(get_module_name(Path(file)), sys.modules[cls.__module__])
    return [file]


def _is_entry_of(entry: PluginEntry, cls: type) -> bool:
    return entry.target == f"{cls.__module__}:{cls.__qualname__}"
