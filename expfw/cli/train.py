"""The commands `run` and `sweep`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from expfw.api.result import FINISHED, PRUNED, Result
from expfw.api.run_config import RunConfig
from expfw.cli import json_results
from expfw.cli.output import TEXT, Output
from expfw.config.compose import compose
from expfw.config.run_plugins import RunPlugins, make_run_plugins
from expfw.errors import ExpfwError
from expfw.experiment import run_with_live_view, sweep_with_live_view
from expfw.plugins.catalogue import Catalogue
from expfw.runs.one_run import execute
from expfw.runs.request import PreparedRun, prepare_run
from expfw.sweeps.resume import ResumeOptions
from expfw.system import formatting
from expfw.system.json_output import print_json, reserve_stdout_for_json
from expfw.system.redirection import redirect_noise


def run(catalogue: Catalogue, options: argparse.Namespace, output: Output) -> int:
    """`expfw run`."""
    config = compose(options.overrides, catalogue, options.config_name or "config", options.config_dir)
    plugins = make_run_plugins(config, catalogue)
    role = plugins.backend.role()
    if role == "serve":
        with redirect_noise(Path(os.devnull)):
            plugins.backend.serve(config)
        return 0
    if role == "follow":
        return _run_as_follower(config, catalogue, plugins)
    return run_prepared(prepare_run(config, catalogue, plugins, overrides=tuple(options.overrides)), output)


def run_prepared(prepared: PreparedRun, output: Output) -> int:
    """Executes a prepared run with its shipper and live view; returns the exit code.

    Args:
        prepared: the run.
        output: format of the printed result.
    """
    if output.is_json:
        with json_results.print_run_at_exit(prepared.request):
            return run_prepared(prepared, TEXT)
    try:
        return _get_exit_code(run_with_live_view(prepared))
    except ExpfwError:
        raise
    except Exception:
        traceback.print_exc()  # ends with a note that names the run and its folder
        return 1


def _get_exit_code(result: Result) -> int:
    return 0 if result.status in (FINISHED, PRUNED) else 1


def _run_as_follower(config: RunConfig, catalogue: Catalogue, plugins: RunPlugins) -> int:
    """Executes a run that another process records; deletes all files that this process writes."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        follower_config = dataclasses.replace(config, runs_dir=folder, cache_gib=0.0, tracker={})
        result = execute(prepare_run(follower_config, catalogue, plugins.drop_kind("tracker")))
    print(f"{result.status}  {formatting.pluralize(result.steps, 'step')}; the first process records the run")
    return _get_exit_code(result)


def sweep(catalogue: Catalogue, options: argparse.Namespace, output: Output) -> int:
    """`expfw sweep`."""
    name = options.config_name or "config"
    return run_sweep(options.overrides, catalogue, name, options.config_dir, None, output)


def run_sweep(
    overrides: Sequence[str],
    catalogue: Catalogue,
    config_name: str,
    config_dir: str | None,
    resume_options: ResumeOptions | None,
    output: Output,
) -> int:
    """Executes or resumes a sweep with a live view; returns the exit code."""
    with reserve_stdout_for_json() if output.is_json else nullcontext() as stdout:
        result = sweep_with_live_view(overrides, catalogue, config_name, config_dir, resume_options)
        if output.is_json:
            print_json(json_results.summarize_sweep(result, catalogue), stdout)
    return 0 if result.status == FINISHED else 1
