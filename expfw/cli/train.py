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

from expfw.api.contracts import Backend
from expfw.api.run import FINISHED, PRUNED, Result
from expfw.api.settings import RunConfig
from expfw.cli import json_results
from expfw.config.compose import compose
from expfw.config.freeze import make_plugins
from expfw.errors import ExpfwError
from expfw.experiment import run_with_live_view, sweep_with_live_view
from expfw.plugins import catalogue, disabled
from expfw.runs.one_run import execute
from expfw.runs.request import Request, make_request
from expfw.sweeps.resume import ResumeOptions
from expfw.system import formatting, output
from expfw.system.json_output import print_json, reserve_stdout_for_json


def run(files: tuple[str, ...], options: argparse.Namespace, as_json: bool = False) -> int:
    """`expfw run`."""
    config = compose(options.overrides, files, options.config_name or "config", options.config_dir)
    (backend,) = make_plugins(config, catalogue.get_catalogue(files), kinds=("backend",))
    assert isinstance(backend, Backend)
    role = backend.role()
    if role == "serve":
        with output.redirect_noise(Path(os.devnull)):
            backend.serve(config)
        return 0
    if role == "follow":
        return _run_as_follower(config, files)
    return execute_request(make_request(config, files, overrides=tuple(options.overrides)), as_json)


def execute_request(request: Request, as_json: bool = False) -> int:
    """Makes a run, or goes on with one, with a shipper and a display; returns the exit code.

    Args:
        as_json: whether its result is printed for programs.
    """
    if as_json:
        with json_results.print_run_at_exit(request):
            return execute_request(request)
    try:
        return _get_exit_code(run_with_live_view(request))
    except ExpfwError:
        raise
    except Exception:
        traceback.print_exc()  # a note at its end says which run, and where
        return 1


def _get_exit_code(result: Result) -> int:
    return 0 if result.status in (FINISHED, PRUNED) else 1


def _run_as_follower(config: RunConfig, files: tuple[str, ...]) -> int:
    """Makes a run together with the process that keeps its record; what this one writes is thrown away."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        follower_config = dataclasses.replace(config, runs_dir=folder, cache_gib=0.0, tracker={})
        result = execute(make_request(follower_config, files))
    print(f"{result.status}  {formatting.pluralize(result.steps, 'step')}; the record is where the first process runs")
    return _get_exit_code(result)


def sweep(files: tuple[str, ...], options: argparse.Namespace, as_json: bool = False) -> int:
    """`expfw sweep`."""
    name = options.config_name or "config"
    return run_sweep(options.overrides, files, name, options.config_dir, as_json=as_json)


def run_sweep(
    overrides: Sequence[str],
    files: tuple[str, ...],
    config_name: str,
    config_dir: str | None,
    resume_options: ResumeOptions | None = None,
    as_json: bool = False,
) -> int:
    """Makes a sweep, or goes on with one, with a display; returns the exit code."""
    with reserve_stdout_for_json() if as_json else nullcontext() as stdout:
        result = sweep_with_live_view(overrides, files, config_name, config_dir, resume_options)
        if as_json:
            print_json(json_results.summarize_sweep(result, [*files, *disabled.get_disable_options()]), stdout)
    return 0 if result.status == FINISHED else 1
