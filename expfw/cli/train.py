"""The commands `run` and `sweep`."""

from __future__ import annotations

import dataclasses
import gc
import os
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from expfw.api.result import FINISHED, PRUNED, Result
from expfw.api.run_config import RunConfig
from expfw.cli.plan import print_plan
from expfw.config.compose import compose
from expfw.config.run_plugins import RunPlugins, make_run_plugins
from expfw.errors import ConfigError, ExpfwError
from expfw.experiment import run_with_live_view, sweep_with_live_view
from expfw.plugins.catalogue import Catalogue
from expfw.reports import sweep_summary
from expfw.runs.one_run import execute
from expfw.runs.request import PreparedRun, Request, prepare_run
from expfw.sweeps.result import SweepResult
from expfw.sweeps.resume import ResumeOptions
from expfw.system import formatting
from expfw.system.json_output import print_json, reserve_stdout_for_json
from expfw.system.redirection import redirect_noise
from expfw.tracking import ranking
from expfw.tracking.recorded_run import read_run

_OMITTED_FIELDS = ("run_id", "name", "folder", "status", "stop_reason")
"""Fields of `Result` that the JSON omits or renames."""


def run(
    catalogue: Catalogue,
    overrides: Sequence[str],
    config_name: str,
    config_dir: str | None,
    multirun: bool,
    as_json: bool,
) -> int:
    """`expfw run`."""
    if multirun:
        return run_sweep(overrides, catalogue, config_name, config_dir, None, as_json)
    config = compose(overrides, catalogue, config_name, config_dir)
    plugins = make_run_plugins(config, catalogue)
    role = plugins.backend.role()
    if role == "serve":
        with redirect_noise(Path(os.devnull)):
            plugins.backend.serve(config)
        return 0
    if role == "follow":
        return _run_as_follower(config, catalogue, plugins)
    return run_prepared(prepare_run(config, catalogue, plugins, overrides=tuple(overrides)), as_json)


def run_prepared(prepared: PreparedRun, as_json: bool) -> int:
    """Executes a prepared run with its shipper and live view; returns the exit code.

    Args:
        prepared: the run.
        as_json: whether to print the result as JSON.
    """
    with print_run_at_exit(prepared.request, as_json):
        try:
            return _get_exit_code(run_with_live_view(prepared))
        except ExpfwError:
            raise
        except Exception:
            traceback.print_exc()  # ends with a note that names the run and its folder
            return 1


@contextmanager
def print_run_at_exit(request: Request, as_json: bool, **extra_fields: Any) -> Iterator[dict[str, Any]]:
    """Prints the result of a run that has started, with any status, if the output is JSON.

    Yields the additional fields of the result; the caller may add more.
    """
    if not as_json:
        yield extra_fields
        return
    with reserve_stdout_for_json() as stdout:
        try:
            yield extra_fields
        finally:
            folders = Path(request.config.runs_dir).absolute().glob(f"*/*-{request.id}")
            folder = request.resume_point.folder if request.resume_point is not None else next(folders, None)
            if folder is not None:
                run = read_run(folder)
                fields = {
                    f.name: run.last.get(f.name) for f in dataclasses.fields(Result) if f.name not in _OMITTED_FIELDS
                }
                summary = {"id": run.id, "name": run.name, "status": run.status, "folder": str(folder), **fields}
                print_json({**summary, **extra_fields}, stdout)


def _get_exit_code(result: Result) -> int:
    return 0 if result.status in (FINISHED, PRUNED) else 1


def _run_as_follower(config: RunConfig, catalogue: Catalogue, plugins: RunPlugins) -> int:
    """Executes a run that another process records; deletes all files that this process writes."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        follower_config = dataclasses.replace(config, runs_dir=folder, cache_gib=0.0, tracker={})
        result = execute(prepare_run(follower_config, catalogue, plugins.drop_kind("tracker")))
    print(f"{result.status}  {formatting.pluralize(result.steps, 'step')}; the first process records the run")
    return _get_exit_code(result)


def sweep(
    catalogue: Catalogue,
    overrides: Sequence[str],
    config_name: str,
    config_dir: str | None,
    plan: bool,
    build: bool,
    everything: bool,
    as_json: bool,
) -> int:
    """`expfw sweep`."""
    if plan:
        return print_plan(catalogue, overrides, config_name, config_dir, build, everything, as_json)
    if build or everything:
        raise ConfigError("--build and --all need --plan: expfw sweep --plan --build model.units=32,64")
    return run_sweep(overrides, catalogue, config_name, config_dir, None, as_json)


def run_sweep(
    overrides: Sequence[str],
    catalogue: Catalogue,
    config_name: str,
    config_dir: str | None,
    resume_options: ResumeOptions | None,
    as_json: bool,
) -> int:
    """Executes or resumes a sweep with a live view; returns the exit code."""
    gc.set_threshold(100_000, 50, 100)
    with reserve_stdout_for_json() if as_json else nullcontext() as stdout:
        result = sweep_with_live_view(overrides, catalogue, config_name, config_dir, resume_options)
        if as_json:
            print_json(_summarize_sweep(result, catalogue), stdout)
    return 0 if result.status == FINISHED else 1


def _summarize_sweep(result: SweepResult, catalogue: Catalogue) -> dict[str, Any]:
    """Returns the result of a sweep, with all its trials and the command that repeats the best one."""
    mode = result.config.objective.mode
    best_trial = ranking.find_best_trial(result.trials, mode)
    best = best_trial and {
        "trial": best_trial.number,
        "run_id": best_trial.run_id,
        "objective": best_trial.objective,
        "objective_metric": best_trial.objective_metric,
        "command": sweep_summary.make_best_command(result.trials, mode, catalogue.plugin_arguments),
    }
    return {
        "id": result.id,
        "status": result.status,
        "folder": str(result.folder),
        "report": str(result.report),
        "objective": {"metric": result.config.objective.metric, "mode": mode},
        "best": best,
        "trials": [sweep_summary.serialize_trial(trial) for trial in result.trials],
    }
