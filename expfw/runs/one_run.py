"""One run, from configuration to result, in the order in which things happen."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw.api.contracts import Backend, Plugin
from expfw.api.data import Splits, checked
from expfw.api.run import FAILED, KILLED, Point, Result, Run
from expfw.config.freeze import make_plugins, shown
from expfw.errors import ExpfwError, PluginError, TrainingError, one_line
from expfw.plugins import importing
from expfw.plugins.catalogue import catalogue
from expfw.plugins.manager import manager, preloads
from expfw.redaction import redact_words, secrets
from expfw.runs import continuation, failure, objective
from expfw.runs.continuation import Continuation
from expfw.runs.hooks import Relay
from expfw.runs.replay import Replay
from expfw.runs.request import Request
from expfw.runs.saved_model import save_model
from expfw.system import output, process_lock
from expfw.system.garbage_collection import import_modules
from expfw.system.signals import Killed, Received, ignore_signals, leave_within, signals_raise
from expfw.tracking import journal, run_folders, run_record
from expfw.tracking.run_folders import LOG
from expfw.tracking.shipper.client import announce

LEAVE_SECONDS = 10.0

log = logging.getLogger("expfw")


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
        process_lock.occupied(folder),
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
            with output.noise_to(folder / LOG, hidden):
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
            with output.noise_to(folder / LOG if there else Path(os.devnull), hidden):
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
    return f"expfw runs resume {run.id}{run_folders.option(run.config.runs_dir)}"


def _bundle(run: Run, error: BaseException) -> None:
    try:
        run.add_artifact(failure.write_bundle(run, error, run.folder / LOG))
    except OSError as trouble:
        log.warning("the failure bundle cannot be written: %s", trouble)  # the error itself is what counts


def _make_folder(request: Request) -> Path:
    if request.sweep_folder is not None and request.trial is not None:
        return run_folders.make_trial(request.sweep_folder, request.trial, request.id)
    return run_folders.make(Path(request.config.runs_dir).absolute(), request.id)


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
