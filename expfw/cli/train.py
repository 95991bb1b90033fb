"""The commands `run` and `sweep`."""

from __future__ import annotations

import dataclasses
import gc
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from expfw.api.result import FINISHED, PRUNED, Result
from expfw.config.compose import Composition
from expfw.config.run_plugins import make_run_plugins
from expfw.errors import ConfigError, ExpfwError
from expfw.experiment import run_with_live_view, sweep_with_live_view
from expfw.plugins.catalogue import Catalogue
from expfw.reports import sweep_summary
from expfw.reports.console import make_console
from expfw.runs.one_run import execute
from expfw.runs.request import PreparedRun, Request, prepare_run
from expfw.sweeps.plan import table
from expfw.sweeps.plan.build import build_models
from expfw.sweeps.plan.trials import ProgressReport, make_preview
from expfw.sweeps.result import SweepResult
from expfw.sweeps.resume import ResumeOptions
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json, reserve_stdout_for_json
from expfw.system.redirection import redirect_noise
from expfw.tracking import ranking
from expfw.tracking.recorded_run import read_run

_OMITTED_FIELDS = ("run_id", "name", "folder", "status", "stop_reason")
"""Fields of `Result` that the JSON omits or renames."""


def run(composition: Composition, multirun: bool, as_json: bool) -> int:
    """`expfw run`."""
    if multirun:
        return run_sweep(composition, None, as_json)
    config, catalogue = composition.compose(), composition.catalogue
    plugins = make_run_plugins(config, catalogue)
    role = plugins.backend.role()
    if role == "serve":
        with redirect_noise():
            plugins.backend.serve(config)
        return 0
    if role == "follow":  # another process records the run: all files that this process writes are deleted
        with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
            follower_config = dataclasses.replace(config, runs_dir=folder, cache_gib=0.0, tracker={})
            result = execute(prepare_run(follower_config, catalogue, plugins.drop_kind("tracker")))
        print(f"{result.status}  {pluralize(result.steps, 'step')}; the first process records the run")
        return _get_exit_code(result)
    return run_prepared(prepare_run(config, catalogue, plugins, overrides=tuple(composition.overrides)), as_json)


def run_prepared(prepared: PreparedRun, as_json: bool) -> int:
    """Executes a prepared run with its shipper and live view; returns the exit code."""
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


def sweep(composition: Composition, plan: bool, build: bool, everything: bool, as_json: bool) -> int:
    """`expfw sweep`."""
    if plan:
        return _print_plan(composition, build, everything, as_json)
    if build or everything:
        raise ConfigError("--build and --all need --plan: expfw sweep --plan --build model.units=32,64")
    return run_sweep(composition, None, as_json)


def _print_plan(composition: Composition, build: bool, everything: bool, as_json: bool) -> int:
    """Prints the trials of a sweep; returns the exit code: 1 if a model cannot be trained, 2 if a trial cannot run."""
    console = make_console()
    problems: list[str] = []
    builds = None
    with _show_progress("checking trials") as report_progress:
        preview = make_preview(composition, report_progress)
    if preview.start_error is not None:
        problems = [f"the first trial cannot run, so `expfw sweep` starts no trial: {preview.start_error}"]
    elif rows := preview.invalid_rows:
        example = f"the first is trial {rows[0].trial.number}: {rows[0].error}"
        problems = [f"{len(rows)} of {pluralize(preview.total, 'trial')} cannot run; {example}"]
    code = ExpfwError.exit_code if problems else 0
    if not as_json:
        table.print_preview(console, preview, everything)
    if build:
        with _show_progress("building models") as report_progress:
            builds = build_models(preview, report_progress)
        if failed_count := sum(model.error is not None for model in builds.models):
            code = code or 1
            problems.append(f"{failed_count} of {pluralize(len(builds.models), 'model')} cannot be trained")
    if as_json:
        print_json(table.to_json(preview, builds))
    elif builds is not None:
        table.print_builds(console, preview, builds)
        if problems:  # the list of trials is far above
            console.print(f"exit code {code}: {'; '.join(problems)}", soft_wrap=True)
    return code


@contextmanager
def _show_progress(title: str) -> Iterator[ProgressReport]:
    """Shows a progress bar on a terminal; yields the function that updates it."""
    from rich.progress import Progress

    console = make_console(stderr=True)
    with (
        reserve_stdout_for_json(),
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task(title)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def run_sweep(composition: Composition, resume_options: ResumeOptions | None, as_json: bool) -> int:
    """Executes or resumes a sweep with a live view; returns the exit code."""
    gc.set_threshold(100_000, 50, 100)
    with reserve_stdout_for_json() if as_json else nullcontext() as stdout:
        result = sweep_with_live_view(composition, resume_options)
        if as_json:
            print_json(_summarize_sweep(result, composition.catalogue), stdout)
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
