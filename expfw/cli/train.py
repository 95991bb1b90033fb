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
from expfw.runs.request import Request, request
from expfw.sweeps.resume import GoingOn
from expfw.system import formatting, output
from expfw.system.json_output import people_on_stderr, print_json


def run(files: tuple[str, ...], options: argparse.Namespace, as_json: bool = False) -> int:
    """`expfw run`."""
    config = compose(options.overrides, files, options.config_name or "config", options.config_dir)
    (backend,) = make_plugins(config, catalogue.catalogue(files), kinds=("backend",))
    assert isinstance(backend, Backend)
    role = backend.role()
    if role == "serve":
        with output.noise_to(Path(os.devnull)):
            backend.serve(config)
        return 0
    if role == "follow":
        return _follow(config, files)
    return shown(request(config, files, overrides=tuple(options.overrides)), as_json)


def shown(made: Request, as_json: bool = False) -> int:
    """Makes a run, or goes on with one, with a shipper and a display; returns the exit code.

    Args:
        as_json: whether its result is printed for programs.
    """
    if as_json:
        with json_results.run_as_json(made):
            return shown(made)
    try:
        return _exit_code(run_with_live_view(made))
    except ExpfwError:
        raise
    except Exception:
        traceback.print_exc()  # a note at its end says which run, and where
        return 1


def _exit_code(result: Result) -> int:
    return 0 if result.status in (FINISHED, PRUNED) else 1


def _follow(config: RunConfig, files: tuple[str, ...]) -> int:
    """Makes a run together with the process that keeps its record; what this one writes is thrown away."""
    with tempfile.TemporaryDirectory(prefix="expfw-") as folder:
        alone = dataclasses.replace(config, runs_dir=folder, cache_gib=0.0, tracker={})
        result = execute(request(alone, files))
    print(f"{result.status}  {formatting.many(result.steps, 'step')}; the record is where the first process runs")
    return _exit_code(result)


def sweep(files: tuple[str, ...], options: argparse.Namespace, as_json: bool = False) -> int:
    """`expfw sweep`."""
    name = options.config_name or "config"
    return sweep_by(options.overrides, files, name, options.config_dir, as_json=as_json)


def sweep_by(
    overrides: Sequence[str],
    files: tuple[str, ...],
    config_name: str,
    config_dir: str | None,
    going_on: GoingOn | None = None,
    as_json: bool = False,
) -> int:
    """Makes a sweep, or goes on with one, with a display; returns the exit code."""
    with people_on_stderr() if as_json else nullcontext() as stdout:
        result = sweep_with_live_view(overrides, files, config_name, config_dir, going_on)
        if as_json:
            print_json(json_results.of_sweep(result, [*files, *disabled.switched_off()]), stdout)
    return 0 if result.status == FINISHED else 1
