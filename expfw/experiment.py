"""The public functions `expfw.run` and `expfw.sweep`: a run or sweep with live view and shipper."""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path

from expfw.api import option_schema
from expfw.api.contracts import Backend
from expfw.api.result import Result
from expfw.api.run_config import RunConfig, to_plain
from expfw.config.compose import Composition, compose
from expfw.config.overrides import Overrides, format_override, format_overrides, is_swept
from expfw.errors import ConfigError, ExpfwError, TrainingError
from expfw.plugins import importing
from expfw.plugins.catalogue import Catalogue, get_cached_catalogue, get_catalogue
from expfw.reports import sweep_summary
from expfw.reports.console import format_main_metrics, make_console
from expfw.reports.live.run import RunLiveView
from expfw.reports.live.sweep import SweepLiveView
from expfw.runs.one_run import execute
from expfw.runs.request import PreparedRun, Request, prepare_request, prepare_run
from expfw.sweeps.local.supervisor import hide_main_script
from expfw.sweeps.result import SweepResult
from expfw.sweeps.resume import ResumeOptions
from expfw.system import formatting
from expfw.system.process_exit import describe_exit
from expfw.system.redirection import redact_output, redacted_output
from expfw.system.signals import Killed
from expfw.tracking import run_folders
from expfw.tracking.shipper.process import running_shipper

_RUN_LOCK = threading.RLock()
"""Only one run at a time: the live view, the log of native libraries and Hydra are global to the process."""

_backend_settings: str | None = None
"""Backend options of the first run in this process; frameworks accept many of them only once per process."""


def run(
    overrides: Overrides = (),
    *,
    files: Sequence[str | Path] = (),
    runs_dir: str | Path | None = None,
    quiet: bool = False,
) -> Result:
    """Trains a model, like `expfw run`: `expfw.run(["model=mlp_keras", "train.epochs=3"])`.

    The run uses this process, so the framework is already loaded for the next run. Backend options apply to a whole
    process: a run whose backend options differ from those of the first run uses a new process.

    Args:
        overrides: overrides as on the command line, or values by key, `{"model": "cnn", "train.epochs": 3}`.
        files: plain Python files with plugins, as with `-p`. A class in a notebook cell cannot be used, because a saved
            model must be able to import it: write it to a file with `%%writefile my_model.py`.
        runs_dir: folder that contains the runs; `runs` by default.
        quiet: whether to print only warnings.

    Returns:
        Result of the run: `status` (FINISHED or PRUNED), `metrics`, `folder`; `expfw.load(result)` reads the rest.

    Raises:
        ExpfwError: if the overrides, the data or a plugin are invalid, or the training failed.
        Exception: any exception of a plugin. All exceptions are recorded as soon as the run has a folder.
        KeyboardInterrupt: if interrupted; raised after all results are recorded. `expfw runs resume` resumes the run.
    """
    catalogue, all_overrides = _load_catalogue(files), _list_overrides(overrides, runs_dir, quiet)
    config = _compose_config(all_overrides, catalogue, overrides)
    prepared = prepare_run(config, catalogue, overrides=tuple(all_overrides))
    backend = prepared.plugins.backend
    if backend.several_processes:
        raise ConfigError(
            f"a run with backend={config.backend['plugin']} needs several processes, but expfw.run uses only this "
            "one; start each process with `expfw run`"
        )
    with _RUN_LOCK:
        return run_with_live_view(prepared) if _can_run_here(config, backend) else _run_in_new_process(prepared.request)


def sweep(
    overrides: Overrides, *, files: Sequence[str | Path] = (), runs_dir: str | Path | None = None, quiet: bool = False
) -> SweepResult:
    """Runs a grid or a search, like `expfw sweep`. Each trial runs in a separate process.

    Args:
        overrides: `["model.units=32,64"]`, or `{"model.units": [32, 64]}`; a list contains the values to sweep.
        files: as for `run`.
        runs_dir: as for `run`.
        quiet: as for `run`.

    Returns:
        `table`, a DataFrame with one row per trial, also for failed trials; `best`, the run of the best trial;
        `report`, an HTML file.

    Raises:
        ExpfwError: if the sweep cannot start.
        KeyboardInterrupt: if interrupted; raised after all results are recorded. `expfw sweeps resume` resumes the
            sweep.
    """
    with _RUN_LOCK:
        all_overrides = _list_overrides(overrides, runs_dir, quiet, is_sweep=True)
        return sweep_with_live_view(Composition(all_overrides, _load_catalogue(files)), show_failures=not quiet)


def _compose_config(all_overrides: Sequence[str], catalogue: Catalogue, overrides: Overrides) -> RunConfig:
    """Composes the configuration of a run; the error for several values of one key suggests `expfw.sweep`."""
    try:
        return compose(all_overrides, catalogue)
    except ConfigError as error:
        keys = [key for key, value in overrides.items() if is_swept(value)] if isinstance(overrides, Mapping) else []
        if "expfw sweep" in str(error) or str(error).startswith(tuple(f"{key} is " for key in keys)):
            raise ConfigError(f"{error}; in Python, expfw.sweep(...) tries each of several values") from error
        raise


def _list_overrides(
    overrides: Overrides, runs_dir: str | Path | None, quiet: bool, is_sweep: bool = False
) -> list[str]:
    runs_dir_override = [] if runs_dir is None else [format_override("runs_dir", runs_dir)]
    return [*format_overrides(overrides, is_sweep), *runs_dir_override, *(["quiet=true"] if quiet else [])]


def _load_catalogue(files: Sequence[str | Path]) -> Catalogue:
    if isinstance(files, (str, Path)):
        raise ConfigError(f"files is {str(files)!r}; expected a list of files: [{str(files)!r}]")
    paths = tuple(str(Path(file).absolute()) for file in files)
    for path in paths:
        importing.forget_file(path)  # a notebook may have rewritten it
    get_cached_catalogue.cache_clear()
    return get_catalogue(paths)


def _can_run_here(config: RunConfig, backend: Backend) -> bool:
    """Returns whether this process can execute the run: it is the first one, or has its process-wide options."""
    global _backend_settings
    settings = json.dumps([to_plain(config.backend), config.train.deterministic], sort_keys=True, default=str)
    # If the framework is imported already, it may have been used with the default options.
    is_imported = _backend_settings is None and any(module in sys.modules for module in backend.preload)
    if is_imported and to_plain(backend.config) != option_schema.make_defaults(type(backend).Config):
        return False
    _backend_settings = _backend_settings or settings
    return _backend_settings == settings


def _run_in_new_process(request: Request) -> Result:
    """Executes the run in a new process; raises `TrainingError` if its process ended early."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_send_result, args=(request, sender))
    with hide_main_script():
        process.start()
    sender.close()
    try:
        answer: Result | BaseException = receiver.recv()
    except EOFError:
        process.join()
        answer = TrainingError(f"run {request.id} failed: {describe_exit(process.exitcode)}")
    except BaseException:
        process.terminate()  # the process records the interruption and ends within ten seconds
        raise
    finally:
        process.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _send_result(request: Request, sender: Connection) -> None:
    """Executes a run and sends its result or its exception, in a form that the other process can read."""
    redact_output()
    try:
        sender.send(run_with_live_view(prepare_request(request)))
    except ExpfwError as error:
        sender.send(error)
    except (KeyboardInterrupt, Killed):
        sender.send(KeyboardInterrupt())
    except Exception as error:
        traceback.print_exc()
        note = " ".join(getattr(error, "__notes__", ())).removeprefix("expfw: ")  # names the run and its folder
        sender.send(TrainingError(f"{type(error).__name__}: {error} ({note})"))


def run_with_live_view(prepared: PreparedRun) -> Result:
    """Executes a run with its shipper and its live view, and prints the result."""
    config = prepared.config
    live_view = RunLiveView()
    if config.notice is not None and not config.quiet:
        make_console(stderr=True).print(config.notice)
    with redacted_output(), running_shipper(config, prepared.request.files) as notes_folder:
        with nullcontext() if config.quiet else live_view.show():
            observers = () if config.quiet else (live_view,)
            result = execute(prepared.change_request(delivery_folder=notes_folder), observers)
        if config.quiet:
            return result
        console, folder = make_console(), run_folders.make_relative_path(result.folder)
        duration = f"{formatting.pluralize(result.steps, 'step')} in {result.seconds:.1f} s"
        console.print(f"{result.status}  {result.name}  {duration}  {folder}")
        console.print(format_main_metrics(result))
        if result.stop_reason is not None:
            console.print(f"ended before its last step: {result.stop_reason}")
        _print_next_commands("expfw runs show", result.run_id, config)
    return result


def _print_next_commands(show_command: str, run_or_sweep_id: str, config: RunConfig) -> None:
    arguments = f"{run_or_sweep_id}{run_folders.format_runs_dir_option(config.runs_dir)}"
    ui_command = f"   expfw ui {arguments}" if config.tracker else ""
    make_console().print(f"next: {show_command} {arguments}{ui_command}", soft_wrap=True)


def sweep_with_live_view(
    composition: Composition, resume_options: ResumeOptions | None = None, show_failures: bool = True
) -> SweepResult:
    """Executes a sweep with its live view, and prints the result; `show_failures` also while it runs."""
    from expfw.sweeps import one_sweep

    live_view = SweepLiveView(show_failures)
    with redacted_output(), live_view.show():
        result = one_sweep.run_sweep(composition, [live_view], resume_options)
    if result.config.quiet:
        return result
    console, folder = make_console(), run_folders.make_relative_path(result.folder)
    sweep_summary.print_trials(
        console,
        result.trials,
        result.config.objective.mode,
        f"sweep {result.id}  {result.status}  {formatting.pluralize(len(result.trials), 'trial')}  {folder}",
        composition.catalogue.plugin_arguments,
        max_length=100,  # the live view has already shown the whole texts of errors
        seeds=result.config.sweep.seeds,
    )
    console.print(f"report: {run_folders.make_relative_path(result.report)}", soft_wrap=True)
    _print_next_commands("expfw sweeps status", result.id, result.config)
    return result
