"""Runs and sweeps from Python and notebooks: what `expfw run` and `expfw sweep` do, with results to go on with."""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from multiprocessing.connection import Connection
from pathlib import Path

from expfw import commands, errors, folders, plugin_file
from expfw.api import Backend
from expfw.compose import compose
from expfw.config import make_plugins, plain
from expfw.errors import ConfigError, ExpfwError, TrainingError
from expfw.one_run import Request, request
from expfw.plugins import catalogue, kept_catalogue
from expfw.run_state import FAILED, KILLED, Result
from expfw.settings import RunConfig
from expfw.signals import Killed
from expfw.supervisor import without_script
from expfw.sweep_result import SweepResult
from expfw.typed_words import Overrides, override, swept, words

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
        return commands.train(made) if _fits(config, backend) else _aside(made)


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
        return commands.swept(typed, _files(files), failures=not quiet)


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
        plugin_file.forget(path)  # a notebook may have written it anew
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
    entry = folders.find_run(Path(made.config.runs_dir), made.id)
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
        sys.exit(commands.shown(made))
    except ExpfwError as error:
        tell.send((type(error).__name__, " ".join([str(error), *getattr(error, "__notes__", ())])))
        sys.exit(1)
    except (KeyboardInterrupt, Killed):
        sys.exit(1)
