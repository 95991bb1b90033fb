"""One run, from configuration to result, in the order in which things happen."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expfw import continuation, failure, folders, importing, journal, objective, process, run_record, terminal
from expfw.api import Backend, Dataset, Plugin
from expfw.config import fingerprint, make_plugins, plain, shown
from expfw.continuation import Continuation
from expfw.data import Splits, checked
from expfw.errors import ExpfwError, PluginError, TrainingError, one_line
from expfw.large_imports import import_modules
from expfw.plugin_manager import check_hooks, manager, preloads
from expfw.plugins import catalogue
from expfw.privacy import redact_words, secrets
from expfw.relay import Relay
from expfw.replay import Replay
from expfw.run_state import FAILED, KILLED, Point, Result, Run
from expfw.saved_model import save_model
from expfw.settings import RunConfig
from expfw.shipping import announce
from expfw.signals import Killed, Received, ignore_signals, leave_within, signals_raise

LOG = "log.txt"
LEAVE_SECONDS = 10.0
log = logging.getLogger("expfw")


@dataclass(frozen=True)
class Request:
    """What it takes to make one run; plain data, so that it can travel to another process.

    Attributes:
        fingerprint: of the configuration and the data; data: see `data_identity`.
        overrides: what the user typed, for the record.
        files: plugin files.
        id: the run's; sweep_id, sweep_folder, trial: for a trial, whose it is and where it goes; swept: see `Run`.
        announce_to: folder in which a shipper looks for journals.
        continues: for a run that goes on.
    """

    config: RunConfig
    fingerprint: str
    overrides: Sequence[str] = ()
    files: tuple[str, ...] = ()
    id: str = field(default_factory=folders.new_id)
    sweep_id: str | None = None
    sweep_folder: Path | None = None
    trial: int | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    announce_to: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    continues: Continuation | None = None


def request(config: RunConfig, files: tuple[str, ...] = (), **fields: Any) -> Request:
    """What it takes to run this configuration on the data that are there.

    Args:
        fields: further fields of `Request`.

    Raises:
        DataError, PluginError: see `data_identity`.
    """
    found = data_identity(config, files)
    return Request(config, fingerprint(config, found), files=files, data=found, **fields)


def data_identity(config: RunConfig, files: tuple[str, ...]) -> Mapping[str, Any]:
    """What tells the data that a configuration would meet from others.

    Raises:
        DataError: the data are not there.
        PluginError: a plugin cannot be made with its options, or has a hook that does not exist.
    """
    plugins = make_plugins(config, catalogue(files))
    check_hooks(plugins)
    found: Mapping[str, Any] = plain(next(plugin for plugin in plugins if isinstance(plugin, Dataset)).identity())
    return found


def execute(request: Request, observers: Sequence[Plugin] = ()) -> Result:
    """Makes a run, or goes on with one, from its folder to the last record of its journal.

    Args:
        observers: further plugins, for example a progress display.

    Raises:
        ExpfwError: an error of the user's; recorded as FAILED, once there is a folder.
        KeyboardInterrupt, Killed: recorded as KILLED.
        Exception: whatever a plugin raised; recorded as FAILED, with its traceback.
    """
    config, going_on = request.config, request.continues
    plugins = [*make_plugins(config, catalogue(request.files)), *observers]
    hooks = manager(plugins, report=lambda line: run.warn(line))
    folder = _make_folder(request) if going_on is None else going_on.folder
    path, hidden = folder / journal.NAME, list(secrets(vars(config)))
    name = shown(config)["name"] or f"{config.model['plugin']} {config.dataset['plugin']}"
    with (
        signals_raise() as received,
        process.occupied(folder),
        journal.Journal(path, hidden) as record,
    ):
        write = record.write if going_on is None else _nothing  # until it is sure that it can go on
        run = Run(request.id, name, folder, config, config.objective, write, swept=request.swept)
        run.hook = Relay(hooks.hook, run, record)
        run.take_snapshot = lambda model: continuation.snapshot(run, model, plugins, record, replay)
        run.read_points = lambda: [Point(*point) for point in journal.points(record.flushed())]
        replay: Replay | None = None
        if going_on is None:
            _begin(request, run, record)
        result = run.result(FAILED, "ended before it began")
        try:
            with terminal.noise_to(folder / LOG, hidden):
                os.write(2, importing.noise())
                if going_on is not None:
                    replay = continuation.take_up(going_on, run, record)
                result = _train(request, run, plugins, received, record, replay)
        except BaseException as error:
            result, raised = _went_wrong(
                run, error, received, recorded=going_on is None or (replay is not None and replay.begun)
            )
            if result.status == KILLED:
                raised.add_note(f"to go on with it: {_how_to_go_on(run, plugins)}")
            if raised is error:
                raise
            raise raised from error
        finally:
            ignore_signals()
            there = os.access(folder / LOG, os.W_OK)  # the folder may be gone by now
            with terminal.noise_to(folder / LOG if there else Path(os.devnull), hidden):
                run.hook.expfw_run_ended(run=run, result=result)
            result = dataclasses.replace(result, warnings=tuple(run.warnings))
            run.record("artifact", path=LOG)
            run.record("run_ended", **run_record.end(result))
    return result


def _nothing(kind: str, **fields: Any) -> None:
    """Records nothing."""


def _went_wrong(run: Run, error: BaseException, received: Received, recorded: bool) -> tuple[Result, BaseException]:
    """The result that an exception means, and the exception that our caller gets for it.

    Args:
        recorded: whether it goes into the record; a run that did not come so far as to go on stays as it was.
    """
    if received.number is not None or isinstance(error, (KeyboardInterrupt, Killed)):
        # whatever the libraries in between made of our exception
        raised = error if received.number is None else received.exception()
        return run.result(KILLED, str(raised) or "interrupted"), raised
    if isinstance(error, OSError):
        error = failure.of_the_folder(run, error)
    if recorded:
        _bundle(run, error)
    if isinstance(error, TrainingError):
        error.add_note(f"(run {run.id}; all about it: {run.folder}/failure)")
    if isinstance(error, ExpfwError):
        run.record("failure", exception=type(error).__name__)
        return run.result(FAILED, str(error)), error
    result = run.result(FAILED, one_line(f"{type(error).__name__}: {error}")[:500])
    run.record("failure", exception=type(error).__name__, traceback="".join(traceback.format_exception(error)))
    where = f"expfw: run {run.id} FAILED; all about it: {run.folder}/failure"
    if isinstance(error, SystemExit):  # a plugin does not decide how our process ends
        return result, TrainingError(f"{result.error}, raised by a plugin; {where}")
    error.add_note(where)
    return result, error


def _how_to_go_on(run: Run, plugins: Sequence[Plugin]) -> str:
    if any(isinstance(plugin, Backend) and plugin.several_processes for plugin in plugins):
        return f"the same command for each process, with train.begin_from=CHECKPOINT of {run.folder}/checkpoints"
    return f"expfw runs resume {run.id}{folders.option(run.config.runs_dir)}"


def _bundle(run: Run, error: BaseException) -> None:
    try:
        run.add_artifact(failure.write_bundle(run, error, run.folder / LOG))
    except OSError as trouble:
        log.warning("the failure bundle cannot be written: %s", trouble)  # the error itself is what counts


def _make_folder(request: Request) -> Path:
    if request.sweep_folder is not None and request.trial is not None:
        return folders.make_trial(request.sweep_folder, request.trial, request.id)
    return folders.make(Path(request.config.runs_dir).absolute(), request.id)


def _begin(request: Request, run: Run, record: journal.Journal) -> None:
    """What is known before anything happens: configuration and surroundings. Of one that never began nothing stays."""
    whose = {"sweep_id": request.sweep_id, "sweep_folder": request.sweep_folder, "trial": request.trial}
    try:
        _write_about("run_started", request, run, record, name=run.name, swept=dict(request.swept), **whose)
    except BaseException:
        if record.flushed().stat().st_size == 0:
            shutil.rmtree(run.folder, ignore_errors=True)
        raise


def _go_on(request: Request, going_on: Continuation, run: Run, record: journal.Journal, replay: Replay) -> None:
    """The same for a run that began before, once it is sure that it can go on."""
    continuation.check_facts(going_on, run)
    _write_about("run_resumed", request, run, record, step=run.step, ends=going_on.ends)
    replay.begin()


def _write_about(kind: str, request: Request, run: Run, record: journal.Journal, **fields: Any) -> None:
    life = 1 + len(list(run.folder.glob("overrides*.yaml")))
    try:
        facts, files = run_record.write_surroundings(run.config, request.overrides, request.files, run.folder, life)
        record.write(
            kind,
            id=run.id,
            **fields,
            fingerprint=request.fingerprint,
            data=request.data,
            files=run_record.hashes(request.files),
            **run_record.recorded_config(run.config),
            environment=facts,
            tags=shown(run.config)["tags"],
            overrides=redact_words(request.overrides),
        )
        record.flush()  # before the file: where a process dies in between, the journal knows
        for file in (run_record.write_config(run.config, run.folder), *files):
            record.write("artifact", path=file.name)
    except OSError as error:
        raise failure.of_the_folder(run, error) from error
    record.flush()
    announce(request.announce_to, run.id, run.folder)


def _train(
    request: Request,
    run: Run,
    plugins: Sequence[Plugin],
    received: Received,
    record: journal.Journal,
    replay: Replay | None,
) -> Result:
    config, hook = request.config, run.hook
    with run.stage("loading the data"):
        data = checked(hook.expfw_load_data(config=config, run=run), config)
    objective.settle(run, data, request.overrides)
    run.record("dataset", **run_record.dataset(config, data, request.data))
    modules = preloads(plugins)
    with run.stage(f"importing {next((name for name in modules if '.' not in name), 'modules')}"):
        import_modules(modules)
    with run.stage("building the model"):
        model = hook.expfw_build_model(config=config, run=run, data=data)
    if model is None:
        raise PluginError(f"model plugin {config.model['plugin']!r} built nothing; its build must return the model")
    run.info.update(hook.expfw_describe(model=model) or {})
    if replay is not None and request.continues is not None:
        _go_on(request, request.continues, run, record, replay)
    run.record("facts", values=run.info)
    hook.expfw_run_started(run=run, data=data, model=model)
    if run.checkpoint is not None:
        continuation.restore_callbacks(run.checkpoint, plugins)
    result = _fit(run, model, data, received)
    objective.warn_if_absent(run)
    with run.stage("saving the model"):
        save_model(run.folder / "model", run, data, model, request.files)
        run.record("model", path="model", step=run.step, **run_record.model(run, data, model, request.files))
    if replay is not None and (text := replay.summary(run.step)):
        run.warn(f"after going on, {text}")
    return dataclasses.replace(result, seconds=run.seconds)


def _fit(run: Run, model: Any, data: Splits, received: Received) -> Result:
    """Trains; a first signal meanwhile asks the run to make a checkpoint and leave, within a bound."""
    with leave_within(LEAVE_SECONDS) as start_clock:

        def leave(number: int) -> None:
            run.leave_requested = True
            start_clock(number)

        received.first = leave
        try:
            result: Result = run.hook.expfw_fit(config=run.config, run=run, model=model, data=data)
        finally:
            received.first = None
    received.number = None  # it came to its end before it left
    return result
