"""The command `sweep --plan`: lists the trials of a sweep without running them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from expfw.cli.hydra_arguments import PlanFlags
from expfw.cli.output import Output
from expfw.errors import ExpfwError
from expfw.plugins.catalogue import Catalogue
from expfw.reports.console import make_console
from expfw.sweeps.plan import build_table, table
from expfw.sweeps.plan.build import BuildResults, build_models
from expfw.sweeps.plan.trials import Preview, make_preview
from expfw.system import formatting
from expfw.system.json_output import print_json, reserve_stdout_for_json

RUN_FAILED = 1


def print_plan(catalogue: Catalogue, options: argparse.Namespace, flags: PlanFlags, output: Output) -> int:
    """Prints the trials of a sweep.

    Returns:
        The exit code: 0; 1 if a model cannot be trained; 2 if a trial cannot run.
    """
    with reserve_stdout_for_json():
        preview = make_preview(
            options.overrides, catalogue, options.config_name, options.config_dir, track_progress=_track_progress
        )
    if not output.is_json:
        table.print_preview(make_console(), preview, flags.everything)
    with reserve_stdout_for_json():
        builds = _build_models(preview) if flags.build else None
    if builds is not None and not output.is_json:
        build_table.print_builds(make_console(), preview, builds)
    if output.is_json:
        build_fields = {} if builds is None else build_table.to_json(preview, builds)
        print_json({**table.to_json(preview), **build_fields})
    code, reason = _get_verdict(preview, builds)
    if code and builds is not None and not output.is_json:  # the list of trials is far above
        make_console().print(f"exit code {code}: {reason}", soft_wrap=True)
    return code


def _get_verdict(preview: Preview, builds: BuildResults | None) -> tuple[int, str]:
    """Returns the exit code and its reason."""
    invalid_rows = [row for row in preview.rows if row.error is not None]
    failed_models = [model for model in builds.results if model.error is not None] if builds is not None else []
    reasons = []
    if preview.start_error is not None:
        reasons.append(f"the first trial cannot run, so `expfw sweep` starts no trial: {preview.start_error}")
    elif invalid_rows:
        example = f"the first is trial {invalid_rows[0].trial.number}: {invalid_rows[0].error}"
        reasons.append(f"{len(invalid_rows)} of {formatting.pluralize(preview.total, 'trial')} cannot run; {example}")
    if failed_models:
        reasons.append(
            f"{len(failed_models)} of {formatting.pluralize(len(builds.results if builds else ()), 'model')} "
            "cannot be trained"
        )
    code = (
        ExpfwError.exit_code if preview.start_error is not None or invalid_rows else RUN_FAILED if failed_models else 0
    )
    return code, "; ".join(reasons)


def _build_models(preview: Preview) -> BuildResults:
    """Builds the models, with a progress bar on a terminal."""
    from rich.progress import Progress

    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("building models")
        return build_models(preview, lambda done, total: progress.update(task, completed=done, total=total))


def _track_progress(numbers: Sequence[int]) -> Iterable[int]:
    """Iterates over the trials, with a progress bar on a terminal."""
    from rich.progress import track

    console = make_console(stderr=True)
    return track(numbers, "checking trials", console=console, transient=True, disable=not console.is_terminal)
