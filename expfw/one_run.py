"""One run, from configuration to result, in the order in which things happen."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from expfw import environment, folders, journal, terminal
from expfw.api import Dataset, Plugin
from expfw.config import chosen, fingerprint, flat, make_plugins, plain, redact, redact_words
from expfw.data import Splits, each
from expfw.errors import DataError, ExpfwError, PluginError, TrainingError, did_you_mean, one_line
from expfw.hookspecs import Observers
from expfw.plugins import catalogue, manager
from expfw.run_state import FAILED, KILLED, Result, Run
from expfw.saved_model import save_model
from expfw.settings import RunConfig
from expfw.shipping import announce
from expfw.signals import Received, ignore_signals, signals_raise

LOG = "log.txt"
log = logging.getLogger("expfw")


@dataclass(frozen=True)
class Request:
    """What it takes to make one run; plain data, so that it can travel to another process.

    Attributes:
        fingerprint: see `identify`.
        overrides: what the user typed, for the record.
        files: plugin files.
        id: the run's; sweep_id, sweep_folder, trial: for a trial, whose it is and where it goes.
        announce_to: folder in which a shipper looks for journals.
    """

    config: RunConfig
    fingerprint: str
    overrides: Sequence[str] = ()
    files: tuple[str, ...] = ()
    id: str = field(default_factory=folders.new_id)
    sweep_id: str | None = None
    sweep_folder: Path | None = None
    trial: int | None = None
    announce_to: Path | None = None


def identify(config: RunConfig, files: tuple[str, ...]) -> str:
    """The fingerprint of a configuration and the data it would meet.

    Raises:
        DataError: the data are not there.
        PluginError: a plugin cannot be made with its options, or has a hook that does not exist.
    """
    plugins = make_plugins(config, catalogue(files))
    manager(plugins, report=log.warning)
    dataset = next(plugin for plugin in plugins if isinstance(plugin, Dataset))
    return fingerprint(config, dataset.identity())


def execute(request: Request, observers: Sequence[Plugin] = ()) -> Result:
    """Makes a run, from its folder to the last record of its journal.

    Args:
        observers: further plugins, for example a progress display.

    Raises:
        ExpfwError: an error of the user's; recorded as FAILED, once there is a folder.
        KeyboardInterrupt, Killed: recorded as KILLED.
        Exception: whatever a plugin raised; recorded as FAILED, with its traceback.
    """
    config = request.config
    plugins = [*make_plugins(config, catalogue(request.files)), *observers]
    hooks = manager(plugins, report=lambda line: run.warn(one_line(line)))
    folder = _make_folder(request)
    name = config.name or f"{config.model['plugin']} {config.dataset['plugin']}"
    with signals_raise() as received, journal.Journal(folder / journal.NAME) as record:
        run = Run(request.id, name, folder, config, config.objective, record.write)
        run.hook = _Relay(hooks.hook, run, record)
        _begin(request, run)
        record.flush()
        announce(request.announce_to, run.id, folder)
        result = run.result(FAILED, "ended before it began")
        try:
            with terminal.noise_to(folder / LOG):
                result = _train(request, run)
            return result
        except BaseException as error:
            result, raised = _went_wrong(run, error, received)
            if raised is error:
                raise
            raise raised from error
        finally:
            ignore_signals()
            run.hook.expfw_run_ended(run=run, result=result)
            run.record("run_ended", **_for_record(result))


def _went_wrong(run: Run, error: BaseException, received: Received) -> tuple[Result, BaseException]:
    """The result that an exception means, and the exception that our caller gets for it."""
    if received.number is not None:  # whatever the libraries in between made of our exception
        return run.result(KILLED, str(received.exception()) or "interrupted"), received.exception()
    if isinstance(error, KeyboardInterrupt):
        return run.result(KILLED, "interrupted"), error
    if isinstance(error, ExpfwError):
        return run.result(FAILED, str(error)), error
    result = run.result(FAILED, one_line(f"{type(error).__name__}: {error}")[:500])
    run.record("failure", traceback=traceback.format_exc())
    where = f"expfw: run {run.id} FAILED; its journal and log are in {run.folder}"
    if isinstance(error, SystemExit):  # a plugin does not decide how our process ends
        return result, TrainingError(f"{result.error}, raised by a plugin; {where}")
    error.add_note(where)
    return result, error


def _make_folder(request: Request) -> Path:
    if request.sweep_folder is not None and request.trial is not None:
        return folders.make_trial(request.sweep_folder, request.trial, request.id)
    return folders.make(Path(request.config.runs_dir).absolute(), request.id)


def _begin(request: Request, run: Run) -> None:
    """What is known before anything happens: configuration and surroundings."""
    facts = _write_surroundings(request, run.folder)
    run.record(
        "run_started",
        id=run.id,
        name=run.name,
        **folders.process_identity(),
        sweep_id=request.sweep_id,
        sweep_folder=request.sweep_folder,
        trial=request.trial,
        fingerprint=request.fingerprint,
        params=flat(redact(plain(run.config))),
        environment=facts,
        tags=dict(run.config.tags),
        overrides=redact_words(request.overrides),
    )
    for file in ("config.yaml", "overrides.yaml", "environment.json", "diff.patch"):
        if (run.folder / file).exists():
            run.add_artifact(run.folder / file)


def _train(request: Request, run: Run) -> Result:
    config, hook = request.config, run.hook
    data = hook.expfw_load_data(config=config, run=run)
    data = checked(data, config)
    if data.validation is None and run.objective.metric.startswith("val/"):
        run.objective = dataclasses.replace(run.objective, metric="train/epoch_loss")
        run.message(f"no validation data: the objective is train/epoch_loss instead of {config.objective.metric}")
    run.record("dataset", name=config.dataset["plugin"], **_sizes(data))
    model = hook.expfw_build_model(config=config, run=run, data=data)
    if model is None:
        raise PluginError(f"model plugin {config.model['plugin']!r} built nothing; its build must return the model")
    run.info.update(hook.expfw_describe(model=model) or {})
    run.record("facts", values=run.info)
    hook.expfw_run_started(run=run, data=data, model=model)
    result: Result = hook.expfw_fit(config=config, run=run, model=model, data=data)
    if (wanted := run.objective.metric) not in run.metrics:
        known = sorted(run.metrics)
        run.warn(
            f"no objective: {wanted!r} was never logged.{did_you_mean(wanted, known)} There are: {', '.join(known)}",
        )
    save_model(run.folder / "model", run, data.spec, model, request.files)
    run.record(
        "model", path="model", step=run.step, requirements=environment.requirements(), **_signature(run, data, model)
    )
    return dataclasses.replace(result, seconds=time.time() - run.started)


def checked(data: Any, config: RunConfig) -> Splits:
    """What a dataset plugin returned, at most as much of it as `train.limit_batches` says.

    Raises:
        DataError: it is something else.
    """
    name = config.dataset["plugin"]
    if not isinstance(data, Splits):
        raise DataError(f"dataset plugin {name!r} returned {type(data).__name__}; expected expfw.Splits")
    limit = config.train.limit_batches
    return data if limit is None else data.limited(limit * config.train.batch_size)


def _sizes(data: Splits) -> dict[str, Any]:
    counts = {name: len(split) for name, split in data.present().items()}
    return {"samples": counts, "input_shape": data.spec.input_shape, "classes": data.spec.classes}


def _signature(run: Run, data: Splits, model: Any) -> dict[str, Any]:
    """Shapes and types of the saved model's input and output, for trackers that declare them."""
    output = run.hook.expfw_predict(model=model, x=data.train.take(slice(1)).x)
    return {"input": each(_declared, data.train.x), "output": each(_declared, output)}


def _declared(array: Any) -> dict[str, Any]:
    return {"shape": [-1, *array.shape[1:]], "dtype": str(array.dtype)}


def _write_surroundings(request: Request, folder: Path) -> dict[str, str]:
    """Writes configuration and environment into the run's folder; returns the few facts that trackers show."""
    config = redact(plain(request.config))
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(redact_words(request.overrides)))
    described = environment.describe(found for _, _, found in chosen(request.config, catalogue(request.files)))
    git = described["git"]
    facts = {f"plugin.{name}": version for name, version in described["plugins"].items()}
    facts |= {"user": described["user"], "command": " ".join(["expfw", *described["command"][1:]])}
    if git is not None:
        if diff := git.pop("diff"):
            (folder / "diff.patch").write_text(diff)
        facts |= {"git_commit": git["commit"], "git_dirty": str(git["dirty"])}
    (folder / "environment.json").write_text(json.dumps(described, indent=2))
    return facts


def _for_record(result: Result) -> dict[str, Any]:
    left_out = ("run_id", "name", "folder")
    return {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name not in left_out}


class _Relay:
    """The hooks as a run's backend and callbacks call them.

    After an observing hook, the points that everybody has seen are no longer recent, and the journal goes to disk.
    Points logged while it went on stay for the next one; a hook called within a hook changes nothing.
    """

    def __init__(self, hook: Any, run: Run, record: journal.Journal) -> None:
        self._hook, self._run, self._record = hook, run, record
        self._within = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._hook, name)
        if self._within or not hasattr(Observers, name):
            return call  # type: ignore[no-any-return]

        def observe(**arguments: Any) -> None:
            seen = len(self._run.recent)
            self._within = True
            try:
                call(**arguments)
            finally:
                self._within = False
            del self._run.recent[:seen]
            self._record.flush()

        return observe
