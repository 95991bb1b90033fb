"""Where a plugin under test is run: real runs on small data, in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from expfw.api.contracts import Backend, Dataset, Model, Plugin
from expfw.api.data import Splits, checked, each
from expfw.api.run import FINISHED, Result, Run
from expfw.api.settings import RunConfig
from expfw.config.compose import compose
from expfw.config.freeze import make_plugins
from expfw.errors import ConfigError, ExpfwError
from expfw.plugins.catalogue import catalogue
from expfw.plugins.kinds import SEVERAL
from expfw.plugins.manager import manager
from expfw.runs import comparison
from expfw.runs.one_run import execute
from expfw.runs.request import Request, request
from expfw.runs.resume import recorded, to_go_on
from expfw.runs.saved_model import load_model
from expfw.sweeps.local.slots import slots
from expfw.sweeps.local.supervisor import Supervisor, to_preload
from expfw.system.process_limits import Limits
from expfw.system.signals import signals_raise
from expfw.testing.failing import fail
from expfw.testing.observers import Keep, Leave
from expfw.testing.under_test import files_of, found_as
from expfw.testing.words import override
from expfw.tracking import journal, run_index

Points = Mapping[tuple[str, int], list[float]]
SMALL_DATA = str(Path(__file__).with_name("small_data.py"))
TRIAL_SECONDS = 300.0


def divide_processor(count: int) -> None:
    """Makes so many logical processors of this process's one, unless a framework was used before."""
    config = compose(["backend=mirrored", f"backend.cpus={count}", "tracker=[]", "callback=[]"])
    backend: Any
    (backend,) = make_plugins(config, catalogue(), kinds=("backend",))
    try:
        backend.devices(Run("none", "none", Path(), config, config.objective, record=_forget))
    except ConfigError:
        return  # whoever needs several processors takes another process


def _forget(kind: str, **fields: Any) -> None:
    """Records nothing."""


def points_in(folder: Path) -> Points:
    """What a run has logged: the values by metric and step."""
    return comparison.points_of(journal.points(folder / journal.NAME))


class Tested(Protocol):
    """What the bench asks of a contract."""

    plugin: type[Plugin]

    def choices(self, bench: Bench) -> list[str]: ...

    def make_options(self, folder: Path) -> Mapping[str, Any]: ...

    def remedy_for_going_on(self) -> str: ...


class Bench:
    """Runs of one plugin, made when they are asked for.

    Attributes:
        found: the plugin as the catalogue has it; files: the plugin files of all runs.
        where: the dotted key of its options; options: those of the contract.
    """

    def __init__(self, contract: type[Tested], folder: Path) -> None:
        self.contract = contract()
        self.folder, self.runs_dir = folder, folder / "runs"
        used = (contract.plugin, getattr(contract, "model", None))
        self.files = tuple(dict.fromkeys((SMALL_DATA, *(file for cls in used for file in files_of(cls)))))
        self.found = found_as(contract.plugin, self.files)
        kind, name = self.found.kind, self.found.name
        self.where = f"{kind}.{name}" if kind in SEVERAL else kind
        self.who = f"{kind} plugin {name!r}"
        (folder / "files").mkdir()
        self.options: Mapping[str, Any] = self.contract.make_options(folder / "files")
        self._made: dict[tuple[str, ...], tuple[Result, Keep]] = {}
        self._interrupted: tuple[Path, Points] | None = None
        self._gone_on: tuple[Result, Keep] | None = None

    def config(self, *overrides: str, options: Mapping[str, Any] | None = None) -> RunConfig:
        """The configuration of a short run with the plugin in it."""
        return self._composed(self.contract.choices(self), options, overrides)

    def _composed(
        self, words: Sequence[str], options: Mapping[str, Any] | None, overrides: Sequence[str] = ()
    ) -> RunConfig:
        own = {**self.options, **(options or {})}
        tracker = [] if self.found.kind == "tracker" else ["tracker=[]"]
        runs_dir = override("runs_dir", str(self.runs_dir))
        own_words = [override(f"{self.where}.{name}", value) for name, value in own.items()]
        try:
            return compose([*words, *tracker, "quiet=true", runs_dir, *own_words, *overrides], self.files)
        except ExpfwError as error:
            if options is not None:  # tried out on purpose
                raise
            fail(f"{self.who} with the options of the test is refused: {error}", "set `options` to what its Config has")

    def alone(self) -> list[str]:
        """The override that chooses the plugin and nothing else of its kind."""
        kind, name = self.found.kind, self.found.name
        return [f"{kind}=[{name}]" if kind in SEVERAL else f"{kind}={name}"]

    def node(self) -> dict[str, Any]:
        """The plugin's options as they are in a frozen configuration."""
        node = getattr(self._composed(self.alone(), None), self.found.kind)
        own = node[self.found.name] if self.found.kind in SEVERAL else node
        return {name: value for name, value in own.items() if name != "plugin"}

    def make(self) -> Any:
        """An instance of the plugin."""
        config = self._composed(self.alone(), None)
        (made,) = make_plugins(config, catalogue(self.files), kinds=(self.found.kind,))
        return made

    def name_of(self, cls: type[Plugin]) -> str:
        """The option name of another plugin class that the contract names."""
        return found_as(cls, self.files).name

    def try_out(self, options: Mapping[str, Any]) -> None:
        """Uses the plugin with these options as far as it goes without a training."""
        kind, name = self.found.kind, self.found.name
        alone = kind not in ("model", "backend")
        config = self._composed(self.alone(), options) if alone else self.config(options=options)
        made = make_plugins(config, catalogue(self.files), kinds=(kind,) if alone else ("dataset", "model", "backend"))
        manager(made, report=_forget)
        (plugin,) = (one for one in made if (one.kind, one.name) == (kind, name))
        if isinstance(plugin, Model):
            self.built(config)
        if isinstance(plugin, Dataset):
            plugin.identity()
            plugin.load(0)

    def built(self, config: RunConfig) -> tuple[Any, Splits, Any]:
        """Hooks, data and model, ready to be trained."""
        self.skip_where_it_cannot_run()
        hook = manager(make_plugins(config, catalogue(self.files)), report=_forget).hook
        run = Run("built", "built", self.folder, config, config.objective, record=_forget, hook=hook)
        data = checked(hook.expfw_load_data(config=config, run=run), config)
        return hook, data, hook.expfw_build_model(config=config, run=run, data=data)

    def run(self, *overrides: str, observers: Sequence[Plugin] = ()) -> Result:
        """A run in this process; one without observers is made once."""
        if not observers and overrides in self._made:
            return self._made[overrides][0]
        keep = Keep()
        try:
            result = execute(self.request(*overrides), [keep, *observers])
        except Exception as error:
            self._no_run(error)
        if not observers:
            self._made[overrides] = result, keep
        return result

    def _no_run(self, error: Exception) -> NoReturn:
        if isinstance(error, ConfigError) and getattr(self.contract.plugin, "on_gpus", False):
            self.skip(str(error))
        if isinstance(error, ExpfwError):
            fail(
                f"a run with {self.who} is refused: {error}", "mend that, or set `options` and `data` to what it takes"
            )
        what = f"a run with {self.who} ended in {type(error).__name__}: {error}"
        fail(what, "the traceback above says where it was raised", cause=error)

    def request(self, *overrides: str) -> Request:
        """What it takes to make a run."""
        self.skip_where_it_cannot_run()
        return request(self.config(*overrides), self.files, overrides=overrides)

    def predictions(self) -> tuple[Any, Any]:
        """Outputs of a trained model when it was saved, and those of the saved model for the raw samples."""
        folder = self.run().folder
        keep = self._made[()][1]
        assert keep.data is not None
        preprocessing = keep.data.spec.preprocessing
        if isinstance(keep.x, Mapping) and not isinstance(preprocessing, Mapping):
            preprocessing = dict.fromkeys(keep.x, preprocessing)
        raw = each(lambda affine, x: affine.inverse(x), preprocessing, keep.x)
        return keep.outputs, load_model(folder / "model").predict(raw)

    def interrupted(self, step: int) -> tuple[Path, Points]:
        """A run that was ended at a step, made once: its folder, and what it had logged then."""
        if self._interrupted is None:
            self.run()  # what cannot run is said there
            made = self.request()
            try:
                result = execute(made, [Keep(), Leave(step)])
            except KeyboardInterrupt:
                folder = run_index.find_run(self.runs_dir, made.id).folder
                self._interrupted = folder, points_in(folder)
            except Exception as error:
                self._no_run(error)
            else:
                self._not_interrupted(result, step)
        return self._interrupted

    def _not_interrupted(self, result: Result, step: int) -> NoReturn:
        if result.steps < step:
            what = f"a run with {self.who} ended at step {result.steps}, where one is to be interrupted at step {step}"
            fail(what, "set `options` so that the runs of the checks do not end so early")
        remedy = "catch no BaseException; a backend calls run.settle() after each of its calls"
        fail(f"a run with {self.who} went on although it was interrupted at step {step}", remedy)

    def go_on(self, folder: Path) -> tuple[Result, Keep]:
        """Goes on with that run, once."""
        if self._gone_on is None:
            keep = Keep()
            try:
                self._gone_on = execute(to_go_on(recorded(run_index.entry(folder)), self.runs_dir), [keep]), keep
            except Exception as error:
                what = f"a run with {self.who} cannot go on: {type(error).__name__}: {error}"
                fail(what, self.contract.remedy_for_going_on(), cause=error)
        return self._gone_on

    def on_two_replicas(self, *overrides: str) -> Path:
        """The folder of a run on two logical processors; in another process where this one is not divided."""
        words = ("backend=mirrored", "backend.cpus=2", *overrides)
        try:
            return execute(self.request(*words)).folder
        except ConfigError as error:
            if "already" not in str(error):
                raise
            return self.trial(*words)

    def on_another_backend(self, name: str) -> Path:
        """The folder of the same run by another backend, in this process."""
        words = [word for word in self.contract.choices(self) if word not in self.alone()]
        runs_dir = override("runs_dir", str(self.runs_dir))
        config = compose([*words, f"backend={name}", "tracker=[]", "quiet=true", runs_dir], self.files)
        return execute(request(config, self.files)).folder

    def trial(self, *overrides: str) -> Path:
        """The folder of a run in a process of its own, forked from the warm server as the trials of a sweep are."""
        made = self.request(*overrides)
        chosen = make_plugins(made.config, catalogue(self.files))
        (backend,) = (plugin for plugin in chosen if isinstance(plugin, Backend))
        self.runs_dir.mkdir(exist_ok=True)
        log, work = self.folder / "trials.log", _OneTrial([made])
        with signals_raise():
            places, preload = slots(1, on_gpus=backend.on_gpus), to_preload(chosen, backend)
            Supervisor(places, preload, log, Limits(TRIAL_SECONDS)).run(work)
        entry = next((one for one in run_index.runs(self.runs_dir) if one.id == made.id), None)
        if entry is None or entry.status != FINISHED:
            why = entry.last.get("error") if entry is not None else work.how
            said = log.read_text().strip().splitlines()[-1:] if log.exists() else []
            fail(
                f"{self.who} does not work in a process of its own, as trials of sweeps are: {why} {' '.join(said)}",
                "let its module import by itself what it needs, and keep in globals nothing that another process lacks",
            )
        return entry.folder

    def skip(self, reason: str) -> NoReturn:
        """Leaves a check out."""
        pytest.skip(reason)

    def skip_where_it_cannot_run(self) -> None:
        """A backend of several processes is not run here."""
        if getattr(self.contract.plugin, "several_processes", False):
            self.skip(f"{self.who} takes several processes, each started by a command of its own")


@dataclass
class _OneTrial:
    """Work of one trial.

    Attributes:
        how: its process ended.
    """

    waiting: list[Request]
    how: str | None = None

    def next_request(self) -> Request | None:
        return self.waiting.pop() if self.waiting else None

    def started(self, made: Request) -> None:
        """Nobody is told."""

    def ended(self, made: Request, how: str | None) -> None:
        self.how = how

    def look(self) -> None:
        """Nobody looks."""
