"""One run, from request to result, in the order of its steps."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from expfw.api.contracts import Callback, Plugin
from expfw.api.data import Splits, check_loaded_data
from expfw.api.result import FAILED, KILLED, Result
from expfw.api.run import Run
from expfw.config.freeze import redact_config
from expfw.errors import ConfigError, ExpfwError, PluginError, TrainingError, list_choices, to_error_text
from expfw.plugins.manager import list_preload_modules, make_manager
from expfw.redaction import redact_overrides
from expfw.runs import failure, restore
from expfw.runs.hooks import RunHooks
from expfw.runs.request import PreparedRun, Request, prepare_request
from expfw.runs.restore import Replay
from expfw.system import atomic_files, process_lock, redirection
from expfw.system.garbage_collection import import_modules
from expfw.system.signals import Killed, ReceivedSignal, exit_deadline, ignore_signals, raise_on_signals
from expfw.tracking import journal, run_folders, run_record
from expfw.tracking.journal import Journal
from expfw.tracking.recorded_run import make_end_record
from expfw.tracking.run_folders import LOG_FILE
from expfw.tracking.saved_model import MODEL_RECORD_KINDS, save_model
from expfw.tracking.shipper.process import queue_delivery

INTERRUPT_TIMEOUT_SECONDS = 10.0

log = logging.getLogger("expfw")


def execute(prepared: PreparedRun, observers: Sequence[Plugin] = ()) -> Result:
    """Executes or resumes a run, from its run folder to the last record of its journal.

    `observers` are additional plugins, for example a live view. As soon as the run has a folder, any exception is
    recorded before it is raised: KeyboardInterrupt and Killed as KILLED, others as FAILED, with the traceback unless it
    is an `ExpfwError`.
    """
    request, config, resume_point = prepared.request, prepared.config, prepared.request.resume_point
    plugins = [*prepared.plugins.instances, *observers]
    plugin_manager = make_manager(plugins, report=lambda line: run.warn(line))
    folder = request.make_folder() if resume_point is None else resume_point.folder
    name = redact_config(config)["name"] or f"{config.model['plugin']} {config.dataset['plugin']}"
    with (
        raise_on_signals() as received_signal,
        process_lock.lock_folder(folder),
        Journal(folder / journal.NAME) as run_journal,
    ):
        # A resumed run records nothing until it is certain that it can continue.
        write = run_journal.write if resume_point is None else journal.discard_record
        run = Run(request.id, name, folder, config, config.objective, write, swept=request.swept, files=request.files)
        run.hook = RunHooks(plugin_manager.hook, run, run_journal)
        run.take_snapshot = lambda model: restore.take_snapshot(run, model, plugins, run_journal, replay)
        run.read_points = run_journal.read_points
        replay: Replay | None = None
        if resume_point is None:
            try:
                _record_setup("run_started", prepared, run, run_journal)
            except BaseException:
                run_journal.flush()
                if run_journal.path.stat().st_size == 0:  # nothing is recorded yet
                    shutil.rmtree(folder, ignore_errors=True)
                raise
        result = run.result(FAILED, "ended before training started")
        try:
            with redirection.redirect_noise(folder / LOG_FILE):
                if resume_point is not None:
                    replay = restore.restore_run(resume_point, run, run_journal)
                result = _train(prepared, run, plugins, received_signal, run_journal, replay)
        except BaseException as error:
            has_begun = resume_point is None or (replay is not None and replay.has_begun)
            result, raised = _handle_error(run, error, received_signal, has_begun)
            if result.status == KILLED:
                resume_command = (
                    f"the same command for each process, with train.begin_from=CHECKPOINT of {folder}/checkpoints"
                    if prepared.plugins.backend.several_processes
                    else f"expfw{run_folders.format_plugin_options(request.files)} runs resume "
                    f"{run.id}{run_folders.format_runs_dir_option(config.runs_dir)}"
                )
                raised.add_note(f"to resume: {resume_command}")
            if raised is error:
                raise
            raise raised from error
        finally:
            ignore_signals()
            log_is_writable = os.access(folder / LOG_FILE, os.W_OK)  # the folder may be deleted
            with redirection.redirect_noise(folder / LOG_FILE if log_is_writable else Path(os.devnull)):
                run.hook.expfw_run_ended(run=run, result=result)
            result = dataclasses.replace(result, warnings=tuple(run.warnings))
            run.record("artifact", path=LOG_FILE)
            run.record("run_ended", **make_end_record(result))
    return result


def execute_request(request: Request) -> Result:
    """Executes a request that was created in another process."""
    return execute(prepare_request(request))


def _handle_error(
    run: Run, error: BaseException, received_signal: ReceivedSignal, has_begun: bool
) -> tuple[Result, BaseException]:
    """Returns the result for an exception, and the exception to raise.

    Writes a failure bundle if the run `has_begun`, unlike a resumed run that has not started to train.
    """
    if received_signal.number is not None or isinstance(error, (KeyboardInterrupt, Killed)):
        # libraries may have replaced the exception of the signal handler
        raised = error if received_signal.number is None else received_signal.make_exception()
        return run.result(KILLED, str(raised) or "interrupted"), raised
    if isinstance(error, OSError):
        error = failure.explain_folder_error(run, error)
    if has_begun:
        try:
            run.add_artifact(failure.write_bundle(run, error))
        except OSError as bundle_error:
            log.warning("cannot write the failure bundle: %s", bundle_error)  # the caller raises the original error
    details = f"details: {run_folders.make_relative_path(run.folder)}/{failure.FOLDER}"
    if isinstance(error, TrainingError):
        error.add_note(f"(run {run.id}; {details})")
    if isinstance(error, ExpfwError):
        run.record("failure", exception=type(error).__name__)
        return run.result(FAILED, str(error)), error
    result = run.result(FAILED, to_error_text(f"{type(error).__name__}: {error}"))
    run.record("failure", exception=type(error).__name__, traceback="".join(traceback.format_exception(error)))
    note = f"run {run.id} FAILED; {details}"
    if isinstance(error, SystemExit):  # a plugin must not end this process
        return result, TrainingError(f"a plugin raised {result.error}; {note}")
    error.add_note(f"expfw: {note}")
    return result, error


def _record_setup(kind: str, prepared: PreparedRun, run: Run, run_journal: Journal, **fields: Any) -> None:
    """Records configuration and environment of a new or resumed run."""
    request = prepared.request
    if kind == "run_started":
        fields = {"name": run.name, "swept": dict(request.swept), "sweep_id": request.sweep_id}
        fields |= {"sweep_folder": request.sweep_folder, "trial": request.trial}
    config_record = run_record.make_config_record(run.config)
    try:
        summary, files = run_record.write_environment(
            request.overrides, prepared.plugins.entries, run.folder, run.config
        )
        run_journal.write(
            kind,
            id=run.id,
            **fields,
            fingerprint=request.fingerprint,
            data=request.data,
            files=run_record.hash_files(request.files),
            code=request.code,
            **config_record,
            environment=summary,
            tags=config_record["config"]["tags"],
            overrides=redact_overrides(request.overrides),
        )
        # Flushed before config.yaml is written: a process killed in between has at least the journal's copy.
        run_journal.flush()
        config_text = yaml.safe_dump(config_record["config"], sort_keys=False)
        atomic_files.write_text(run.folder / run_folders.CONFIG_FILE, config_text)
        for name in (run_folders.CONFIG_FILE, *files):
            run_journal.write("artifact", path=name)
    except OSError as error:
        raise failure.explain_folder_error(run, error) from error
    run_journal.flush()
    queue_delivery(request.delivery_folder, run.id, run.folder)


def _train(
    prepared: PreparedRun,
    run: Run,
    plugins: Sequence[Plugin],
    received_signal: ReceivedSignal,
    run_journal: Journal,
    replay: Replay | None,
) -> Result:
    request, config, hook = prepared.request, prepared.config, run.hook
    with run.stage("loading the data"):
        data = check_loaded_data(hook.expfw_load_data(config=config, run=run), config)
    _choose_objective(run, data, request.overrides)
    run.record("dataset", **run_record.describe_dataset(config, data, request.data))
    modules = list_preload_modules(plugins)
    with run.stage(f"importing {next((name for name in modules if '.' not in name), 'modules')}"):
        import_modules(modules)
    with run.stage("building the model"):
        model = hook.expfw_build_model(config=config, run=run, data=data)
    if model is None:
        raise PluginError(f"model plugin {config.model['plugin']!r}: build returned None; expected a model")
    run.info.update(hook.expfw_describe(model=model) or {})
    if replay is not None and request.resume_point is not None:
        restore.check_info(request.resume_point, run)
        _record_setup("run_resumed", prepared, run, run_journal, step=run.step, ends=request.resume_point.end_steps)
        replay.begin()
    run.record("info", values=run.info)
    hook.expfw_run_started(run=run, data=data, model=model)
    if run.checkpoint is not None:
        for plugin in plugins:
            state = run.checkpoint.plugins.get(f"{plugin.kind}:{plugin.name}")
            if isinstance(plugin, Callback) and state:
                plugin.restore(state)
    result = _fit(run, model, data, received_signal)
    if (metric := run.objective.metric) not in run.metrics:
        run.warn(f"no objective: metric {metric!r} was never logged.{list_choices(metric, sorted(run.metrics))}")
    with run.stage("saving the model"):
        entries = [entry for entry in prepared.plugins.entries if entry.kind in MODEL_RECORD_KINDS]
        save_model(run.folder / "model", run, data, model, request.files, entries)
        step = run.step if run.model_step is None else run.model_step
        run.record("model", path="model", step=step, **run_record.describe_model(run, data, model, entries))
    if replay is not None and (text := replay.describe_differences(run.step)):
        run.warn(f"after resuming: {text}")
    return dataclasses.replace(result, seconds=run.seconds)


def _choose_objective(run: Run, data: Splits, overrides: Sequence[str]) -> None:
    """Sets the objective of the run: the configured one, or the training loss if there is no validation data.

    Also sets the weights to test and to save.
    """
    configured_metric = run.config.objective.metric
    run.objective, run.test_on = run.config.choose_objective(data.get_splits())
    if run.objective.metric != configured_metric:
        is_overridden = any(override.lstrip("+").startswith("objective.metric=") for override in overrides)
        report = run.warn if is_overridden else run.message
        report(f"no validation data: the objective is {run.objective.metric} instead of {configured_metric}")
    elif configured_metric.startswith("val/") and data.validation is None:
        raise ConfigError(
            f"objective.metric={configured_metric} needs validation data, but dataset "
            f"{run.config.dataset['plugin']!r} provides none; expected a training metric, for example "
            "objective.metric=train/epoch_loss"
        )


def _fit(run: Run, model: Any, data: Splits, received_signal: ReceivedSignal) -> Result:
    """Trains the model; a first signal makes the run save a checkpoint and stop within 10 s."""
    with exit_deadline(INTERRUPT_TIMEOUT_SECONDS) as start_timer:

        def request_stop(number: int) -> None:
            run.interrupt_requested = True
            start_timer(number)

        received_signal.on_first_signal = request_stop
        try:
            result: Result = run.hook.expfw_fit(config=run.config, run=run, model=model, data=data)
        finally:
            received_signal.on_first_signal = None
    received_signal.number = None  # a signal that came too late to stop the training has no effect
    return result
