"""Real runs of a plugin under test, on small data in a separate folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from expfw.api.contracts import Dataset, Model, Plugin
from expfw.api.data import Splits, check_loaded_data, map_parts
from expfw.api.result import FINISHED, Result
from expfw.api.run import Run
from expfw.api.run_config import RunConfig
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.errors import ConfigError, ExpfwError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.kinds import MULTIPLE_KINDS
from expfw.plugins.manager import make_manager
from expfw.runs import exact_comparison
from expfw.runs.one_run import execute
from expfw.runs.recorded_setup import read_recorded_setup
from expfw.runs.request import PreparedRun, prepare_run
from expfw.runs.resume import prepare_resume
from expfw.runs.saved_model import load_model
from expfw.sweeps.local.slots import make_slots
from expfw.sweeps.local.supervisor import Supervisor, list_server_modules
from expfw.system.process_limits import Limits
from expfw.system.signals import raise_on_signals
from expfw.testing.failure import fail
from expfw.testing.observers import RunInterrupter, StateRecorder
from expfw.testing.overrides import make_override
from expfw.testing.plugin_lookup import find_plugin_entry, find_plugin_files
from expfw.testing.single_trial import SingleTrialQueue
from expfw.tracking import journal, run_index

Points = Mapping[tuple[str, int], list[float]]
SMALL_DATA_FILE = str(Path(__file__).with_name("small_data.py"))
TRIAL_TIMEOUT_SECONDS = 300.0


def read_run_points(folder: Path) -> Points:
    """Returns the logged values of a run by metric and step."""
    return exact_comparison.group_points(journal.read_points(folder / journal.NAME))


class BenchContract(Protocol):
    """Attributes and methods of a contract that the bench uses."""

    plugin: type[Plugin]

    def make_run_overrides(self, bench: Bench) -> list[str]: ...

    def make_options(self, folder: Path) -> Mapping[str, Any]: ...

    def get_resume_remedy(self) -> str: ...


class Bench:
    """Runs of one plugin, executed on demand.

    Attributes:
        contract: instance of the contract.
        folder: folder of all files.
        runs_dir: runs folder.
        files: plugin files of all runs.
        entry: plugin entry.
        options_key: dotted key of the plugin's options.
        plugin_label: kind and name of the plugin, for messages.
        options: options of the contract.
    """

    def __init__(self, contract: type[BenchContract], folder: Path) -> None:
        self.contract = contract()
        self.folder, self.runs_dir = folder, folder / "runs"
        plugin_classes = (contract.plugin, getattr(contract, "model", None))
        self.files = tuple(
            dict.fromkeys((SMALL_DATA_FILE, *(file for cls in plugin_classes for file in find_plugin_files(cls))))
        )
        self.entry = find_plugin_entry(contract.plugin, self.files)
        kind, name = self.entry.kind, self.entry.name
        self.options_key = f"{kind}.{name}" if kind in MULTIPLE_KINDS else kind
        self.plugin_label = f"{kind} plugin {name!r}"
        (folder / "files").mkdir()
        self.options: Mapping[str, Any] = self.contract.make_options(folder / "files")
        self._finished_runs: dict[tuple[str, ...], tuple[Result, StateRecorder]] = {}
        self._interrupted_run: tuple[Path, Points] | None = None
        self._resumed_run: tuple[Result, StateRecorder] | None = None

    def make_config(self, *overrides: str, options: Mapping[str, Any] | None = None) -> RunConfig:
        """Returns the configuration of a short run with the plugin."""
        return self._compose_config(self.contract.make_run_overrides(self), options, overrides)

    def _compose_config(
        self, base_overrides: Sequence[str], options: Mapping[str, Any] | None, overrides: Sequence[str] = ()
    ) -> RunConfig:
        plugin_options = {**self.options, **(options or {})}
        tracker = [] if self.entry.kind == "tracker" else ["tracker=[]"]
        runs_dir = make_override("runs_dir", str(self.runs_dir))
        option_overrides = [
            make_override(f"{self.options_key}.{name}", value) for name, value in plugin_options.items()
        ]
        try:
            return compose(
                [*base_overrides, *tracker, "quiet=true", runs_dir, *option_overrides, *overrides], self.catalogue
            )
        except ExpfwError as error:
            if options is not None:  # may be invalid on purpose
                raise
            fail(
                f"{self.plugin_label} rejects the options of the test: {error}",
                "set `options` to options of its Config",
            )

    def select_plugin(self) -> list[str]:
        """Returns the override that selects only this plugin of its kind."""
        kind, name = self.entry.kind, self.entry.name
        return [f"{kind}=[{name}]" if kind in MULTIPLE_KINDS else f"{kind}={name}"]

    def get_frozen_options(self) -> dict[str, Any]:
        """Returns the plugin's options in a frozen configuration."""
        node = getattr(self._compose_config(self.select_plugin(), None), self.entry.kind)
        plugin_node = node[self.entry.name] if self.entry.kind in MULTIPLE_KINDS else node
        return {name: value for name, value in plugin_node.items() if name != "plugin"}

    def make_plugin(self) -> Any:
        """Returns an instance of the plugin."""
        config = self._compose_config(self.select_plugin(), None)
        (plugin,) = make_plugins(config, get_catalogue(self.files), kinds=(self.entry.kind,))
        return plugin

    def get_plugin_name(self, cls: type[Plugin]) -> str:
        """Returns the name of another plugin class that the contract uses."""
        return find_plugin_entry(cls, self.files).name

    def try_options(self, options: Mapping[str, Any]) -> None:
        """Uses the plugin with these options, without training."""
        kind, name = self.entry.kind, self.entry.name
        is_standalone = kind not in ("model", "backend")
        config = (
            self._compose_config(self.select_plugin(), options) if is_standalone else self.make_config(options=options)
        )
        plugins = make_plugins(
            config, get_catalogue(self.files), kinds=(kind,) if is_standalone else ("dataset", "model", "backend")
        )
        make_manager(plugins, report=journal.discard_record)
        (plugin,) = (candidate for candidate in plugins if (candidate.kind, candidate.name) == (kind, name))
        if isinstance(plugin, Model):
            self.build_model(config)
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

    def run(self, *overrides: str, observers: Sequence[Plugin] = ()) -> Result:
        """Executes a run in this process. Runs without observers are cached."""
        if not observers and overrides in self._finished_runs:
            return self._finished_runs[overrides][0]
        recorder = StateRecorder()
        try:
            result = execute(self.prepare_run(*overrides), [recorder, *observers])
        except Exception as error:
            self._fail_run(error)
        if not observers:
            self._finished_runs[overrides] = result, recorder
        return result

    def _fail_run(self, error: Exception) -> NoReturn:
        if isinstance(error, ConfigError) and getattr(self.contract.plugin, "on_gpus", False):
            self.skip(str(error))
        if isinstance(error, ExpfwError):
            fail(
                f"a run with {self.plugin_label} is rejected: {error}",
                "fix this, or set `options` and `data` that the plugin accepts",
            )
        problem = f"a run with {self.plugin_label} raises {type(error).__name__}: {error}"
        fail(problem, "see the traceback above", cause=error)

    @property
    def catalogue(self) -> Catalogue:
        """Catalogue of the installed plugins and of the plugins in the plugin's file."""
        return get_catalogue(self.files)

    def prepare_run(self, *overrides: str) -> PreparedRun:
        """Prepares a run."""
        self.skip_if_unsupported()
        return prepare_run(self.make_config(*overrides), self.catalogue, overrides=overrides)

    def make_predictions(self) -> tuple[Any, Any]:
        """Returns outputs of a trained model when it was saved, and of the saved model for the same raw samples."""
        folder = self.run().folder
        recorder = self._finished_runs[()][1]
        assert recorder.data is not None
        preprocessing = recorder.data.spec.preprocessing
        if isinstance(recorder.samples, Mapping) and not isinstance(preprocessing, Mapping):
            preprocessing = dict.fromkeys(recorder.samples, preprocessing)
        raw = map_parts(lambda affine, x: affine.inverse(x), preprocessing, recorder.samples)
        return recorder.outputs, load_model(folder / "model").predict(raw)

    def interrupt_run(self, step: int) -> tuple[Path, Points]:
        """Interrupts a run at a step. Returns its folder and the points that it logged; cached."""
        if self._interrupted_run is None:
            self.run()  # fails first if the plugin cannot run
            prepared = self.prepare_run()
            try:
                result = execute(prepared, [StateRecorder(), RunInterrupter(step)])
            except KeyboardInterrupt:
                folder = run_index.find_run(self.runs_dir, prepared.request.id).folder
                self._interrupted_run = folder, read_run_points(folder)
            except Exception as error:
                self._fail_run(error)
            else:
                self._fail_interruption(result, step)
        return self._interrupted_run

    def _fail_interruption(self, result: Result, step: int) -> NoReturn:
        if result.steps < step:
            problem = (
                f"a run with {self.plugin_label} ended at step {result.steps}, before its interruption at step {step}"
            )
            fail(problem, "set `options` so that the runs of the checks are longer")
        remedy = "do not catch BaseException; in a backend, call run.safe_point() after each call of the framework"
        fail(f"a run with {self.plugin_label} continued although it was interrupted at step {step}", remedy)

    def resume_run(self, folder: Path) -> tuple[Result, StateRecorder]:
        """Resumes the interrupted run; cached."""
        if self._resumed_run is None:
            recorder = StateRecorder()
            try:
                self._resumed_run = (
                    execute(
                        prepare_resume(read_recorded_setup(run_index.read_entry(folder)), self.runs_dir), [recorder]
                    ),
                    recorder,
                )
            except Exception as error:
                problem = f"a run with {self.plugin_label} cannot be resumed: {type(error).__name__}: {error}"
                fail(problem, self.contract.get_resume_remedy(), cause=error)
        return self._resumed_run

    def run_on_two_replicas(self, *overrides: str) -> Path:
        """Executes a run on two logical processors and returns its folder. Uses another process if necessary."""
        all_overrides = ("backend=mirrored", "backend.cpus=2", *overrides)
        try:
            return execute(self.prepare_run(*all_overrides)).folder
        except ConfigError as error:
            if "already" not in str(error):
                raise
            return self.run_in_trial_process(*all_overrides)

    def run_on_backend(self, name: str) -> Path:
        """Executes the run with another backend in this process and returns its folder."""
        remaining_overrides = [
            argument for argument in self.contract.make_run_overrides(self) if argument not in self.select_plugin()
        ]
        runs_dir = make_override("runs_dir", str(self.runs_dir))
        config = compose(
            [*remaining_overrides, f"backend={name}", "tracker=[]", "quiet=true", runs_dir], self.catalogue
        )
        return execute(prepare_run(config, self.catalogue)).folder

    def run_in_trial_process(self, *overrides: str) -> Path:
        """Executes a run in a trial process, forked from the fork server of a sweep, and returns its folder."""
        prepared = self.prepare_run(*overrides)
        request, plugins = prepared.request, prepared.plugins
        self.runs_dir.mkdir(exist_ok=True)
        log, queue = self.folder / "trials.log", SingleTrialQueue([request])
        with raise_on_signals():
            trial_slots = make_slots(1, on_gpus=plugins.backend.on_gpus)
            Supervisor(trial_slots, list_server_modules(plugins), log, Limits(TRIAL_TIMEOUT_SECONDS)).run(queue)
        entry = next(
            (candidate for candidate in run_index.list_runs(self.runs_dir) if candidate.id == request.id), None
        )
        if entry is None or entry.status != FINISHED:
            reason = entry.last.get("error") if entry is not None else queue.exit_description
            log_tail = log.read_text().strip().splitlines()[-1:] if log.exists() else []
            fail(
                f"{self.plugin_label} does not work in a separate process, as in a trial of a sweep: {reason} "
                f"{' '.join(log_tail)}",
                "import all dependencies in its module, and do not use global state that other processes do not have",
            )
        return entry.folder

    def skip(self, reason: str) -> NoReturn:
        """Skips a check."""
        pytest.skip(reason)

    def skip_if_unsupported(self) -> None:
        """Skips a check for a backend with several processes."""
        if getattr(self.contract.plugin, "several_processes", False):
            self.skip(f"{self.plugin_label} needs several processes, each started by a separate command")
