"""The two public verbs, `expfw.run` and `expfw.sweep`: a run or sweep with its live view and its shipper."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from multiprocessing.connection import Connection
from pathlib import Path

from expfw import errors
from expfw.api.contracts import Backend
from expfw.api.plain_values import plain
from expfw.api.run import FAILED, FINISHED, KILLED, PRUNED, Result
from expfw.api.settings import RunConfig
from expfw.config.compose import compose
from expfw.config.freeze import make_plugins
from expfw.config.overrides import Overrides, override, swept, words
from expfw.errors import ConfigError, ExpfwError, TrainingError
from expfw.plugins import disabled, plain_files
from expfw.plugins.catalogue import catalogue, kept_catalogue
from expfw.reports import console, tables
from expfw.reports.live.run import RunDisplay
from expfw.reports.live.sweep import SweepDisplay
from expfw.runs.one_run import execute
from expfw.runs.request import Request, request
from expfw.sweeps.local.supervisor import without_script
from expfw.sweeps.result import SweepResult
from expfw.sweeps.resume import GoingOn
from expfw.system import formatting
from expfw.system.signals import Killed
from expfw.tracking import run_folders, run_index
from expfw.tracking.shipper.client import shipping

_ONE = threading.RLock()
"""One at a time: the display, the log of native libraries and Hydra are of the whole process."""

_taken: str | None = None
"""The settings of the backend that the first run of this process had; frameworks take many of them only once."""


def run(
    overrides: Overrides = (),
    *,
    files: Sequence[str | Path] = (),
    runs_dir: str | Path | None = None,
    quiet: bool = False,
) -> Result:
    """Trains once, as `expfw run` does: `expfw.run(["model=mlp_keras", "train.epochs=3"])`.

    It happens in this process, whose framework is then warm for the next run. Settings of a backend hold for a process:
    a run that has others than the first one happens in a process of its own.

    Args:
        overrides: words as on the command line, or values by key, `{"model": "cnn", "train.epochs": 3}`.
        files: plain Python files with plugins, as with `-p`. A class in a notebook's cell is none, since a saved model
            must find it again: write it to a file with `%%writefile my_model.py`.
        runs_dir: the folder that everything is written to; `runs` by default.
        quiet: whether nothing but warnings is printed.

    Returns:
        What it came to: `status` (FINISHED or PRUNED), `metrics`, `folder`; `expfw.load(result)` has the rest.

    Raises:
        ExpfwError: a mistake in the overrides, the data, a plugin; a training that failed.
        Exception: whatever a plugin raised. All of them are recorded, once the run has a folder.
        KeyboardInterrupt: after everything was recorded; `expfw runs resume` goes on.
    """
    made_of = _files(files)
    typed = _words(overrides, runs_dir, quiet)
    config = _composed(typed, made_of, overrides)
    (backend,) = make_plugins(config, catalogue(made_of), kinds=("backend",))
    assert isinstance(backend, Backend)
    if backend.several_processes:
        raise ConfigError(
            f"backend={config.backend['plugin']} is several processes, of which Python here can be only one; "
            "start each with `expfw run`"
        )
    made = request(config, made_of, overrides=tuple(typed))
    with _ONE:
        return run_with_live_view(made) if _fits(config, backend) else _aside(made)


def sweep(
    overrides: Overrides, *, files: Sequence[str | Path] = (), runs_dir: str | Path | None = None, quiet: bool = False
) -> SweepResult:
    """Trains every combination of some values, or searches, as `expfw sweep` does; each trial in a process of its own.

    Args:
        overrides: `["model.units=32,64"]`, or `{"model.units": [32, 64]}`, where a list is what is swept over.
        files, runs_dir, quiet: as for `run`.

    Returns:
        `table`, a DataFrame with a row for each trial; `best`, the run of the best one; `report`, an HTML file. A trial
        that failed is a row of the table.

    Raises:
        ExpfwError: nothing could be started.
        KeyboardInterrupt: after everything was recorded; `expfw sweeps resume` goes on.
    """
    with _ONE:
        typed = _words(overrides, runs_dir, quiet, sweeping=True)
        return sweep_with_live_view(typed, _files(files), failures=not quiet)


def _composed(typed: Sequence[str], files: tuple[str, ...], overrides: Overrides) -> RunConfig:
    """The configuration of a run; whoever gives several values for one is told what tries each."""
    try:
        return compose(typed, files)
    except ConfigError as error:
        lists = [key for key, value in overrides.items() if swept(value)] if isinstance(overrides, Mapping) else []
        if "expfw sweep" in str(error) or any(str(error).startswith(f"{key} is ") for key in lists):
            raise ConfigError(f"{error}; in Python, expfw.sweep(...) tries each of several values") from error
        raise


def _words(overrides: Overrides, runs_dir: str | Path | None, quiet: bool, sweeping: bool = False) -> list[str]:
    where = [] if runs_dir is None else [override("runs_dir", runs_dir)]
    return [*words(overrides, sweeping), *where, *(["quiet=true"] if quiet else [])]


def _files(files: Sequence[str | Path]) -> tuple[str, ...]:
    if isinstance(files, (str, Path)):
        raise ConfigError(f"files is {str(files)!r}; expected a list of files: [{str(files)!r}]")
    paths = tuple(str(Path(file).absolute()) for file in files)
    for path in paths:
        plain_files.forget(path)  # a notebook may have written it anew
    kept_catalogue.cache_clear()
    return paths


def _fits(config: RunConfig, backend: Backend) -> bool:
    """Whether this process can make the run: it is the first, or like the first in what holds for a process."""
    global _taken
    asked = json.dumps([plain(config)["backend"], config.train.deterministic], sort_keys=True, default=str)
    if _taken is None and any(module in sys.modules for module in backend.preload) and not _by_default(backend):
        return False  # who imported the framework may have used it, and so have settled what was asked for
    _taken = _taken or asked
    return _taken == asked


def _by_default(backend: Backend) -> bool:
    try:
        return bool(backend.config == type(backend).Config())
    except TypeError:  # it has options without a default
        return False


def _aside(made: Request) -> Result:
    """Makes the run in a process of its own.

    Raises:
        ExpfwError: what the run raised there; TrainingError for what is none, or where its process ended wordless.
        KeyboardInterrupt: it was interrupted.
    """
    context = multiprocessing.get_context("spawn")
    answers, tell = context.Pipe(duplex=False)
    process = context.Process(target=_make, args=(made, tell))
    with without_script():
        process.start()
    try:
        process.join()
    except BaseException:
        process.terminate()  # it records that, and ends within ten seconds
        process.join()
        raise
    if answers.poll():
        name, text = answers.recv()
        raise getattr(errors, name, TrainingError)(text)
    entry = run_index.find_run(Path(made.config.runs_dir), made.id)
    if entry.status == KILLED:
        raise KeyboardInterrupt
    if entry.last["kind"] != "run_ended" or entry.status == FAILED:
        reason = entry.last.get("error") or f"its process ended with {process.exitcode}"
        raise TrainingError(f"{reason} (run {made.id}; all about it: {entry.folder})")
    known = {field.name: entry.last[field.name] for field in fields(Result) if field.name in entry.last}
    return Result(**{**known, "run_id": entry.id, "name": entry.name, "folder": entry.folder.absolute()})


def _make(made: Request, tell: Connection) -> None:
    """In the other process; what became of it is in the record."""
    try:
        result = run_with_live_view(made)
    except ExpfwError as error:
        tell.send((type(error).__name__, " ".join([str(error), *getattr(error, "__notes__", ())])))
        sys.exit(1)
    except (KeyboardInterrupt, Killed):
        sys.exit(1)
    except Exception:
        traceback.print_exc()  # a note at its end says which run, and where
        sys.exit(1)
    sys.exit(0 if result.status in (FINISHED, PRUNED) else 1)


_TOLD_ALREADY = 100
"""Characters of a failure that was told while the sweep went on."""


def run_with_live_view(made: Request) -> Result:
    """The same; returns the result.

    Raises:
        Exception: what `one_run.execute` raises.
    """
    config = made.config
    display = RunDisplay()
    _say_notice(config)
    with shipping(config, made.files) as notes:
        with nullcontext() if config.quiet else display.shown():
            result = execute(dataclasses.replace(made, announce_to=notes), () if config.quiet else (display,))
        if not config.quiet:
            _tell(result, config)
    return result


def _tell(result: Result, config: RunConfig) -> None:
    """What a run came to, where it is, and the next useful command."""
    spent = f"{formatting.many(result.steps, 'step')} in {result.seconds:.1f} s"
    screen = console.screen()
    screen.print(f"{result.status}  {result.name}  {spent}  {run_folders.relative(result.folder)}")
    screen.print(console.main_metrics(result.metrics))
    if result.stop_reason is not None:
        screen.print(f"ended before its last step: {result.stop_reason}")
    show = f"expfw runs show {result.run_id}{run_folders.option(config.runs_dir)}"
    screen.print(f"next: {show}{_ui(config, result.run_id)}", soft_wrap=True)


def _say_notice(config: RunConfig) -> None:
    if config.notice is not None and not config.quiet:
        console.screen(stderr=True).print(config.notice)


def _ui(config: RunConfig, identity: str) -> str:
    return f"   expfw ui {identity}{run_folders.option(config.runs_dir)}" if config.tracker else ""


def sweep_with_live_view(
    overrides: Sequence[str],
    files: tuple[str, ...],
    config_name: str = "config",
    config_dir: str | None = None,
    going_on: GoingOn | None = None,
    failures: bool = True,
) -> SweepResult:
    """The same; returns the result, and tells of trials that failed, or leaves them to that."""
    from expfw.sweeps import one_sweep

    display = SweepDisplay(failures)
    with display.shown():
        result = one_sweep.sweep(overrides, files, config_name, config_dir, [display], going_on)
    if not result.config.quiet:
        _tell_of_sweep(result, files)
    return result


def _tell_of_sweep(result: SweepResult, files: Sequence[str]) -> None:
    screen, mode = console.screen(), result.config.objective.mode
    trials = formatting.many(len(result.trials), "trial")
    title = f"sweep {result.id}  {result.status}  {trials}  {run_folders.relative(result.folder)}"
    tables.show(
        screen, result.trials, mode, title, [*files, *disabled.switched_off()], _TOLD_ALREADY, result.config.sweep.seeds
    )
    screen.print(f"report: {run_folders.relative(result.report)}", soft_wrap=True)
    status = f"expfw sweeps status {result.id}{run_folders.option(result.config.runs_dir)}"
    screen.print(f"next: {status}{_ui(result.config, result.id)}", soft_wrap=True)
