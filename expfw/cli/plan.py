"""The command `sweep --plan`: which trials there would be, without running any."""

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
    """Prints what a sweep would do.

    Returns:
        The exit code: that of a user's error where a trial cannot run; of a run that failed where a model cannot be
        trained.
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
    if code and builds is not None and not output.is_json:  # what was said of the trials is far above
        make_console().print(f"exit code {code}: {reason}", soft_wrap=True)
    return code


def _get_verdict(preview: Preview, builds: BuildResults | None) -> tuple[int, str]:
    """The exit code, and the reason for it."""
    invalid_rows = [row for row in preview.rows if row.error is not None]
    failed_models = [model for model in builds.results if model.error is not None] if builds is not None else []
    reasons = []
    if preview.start_error is not None:
        reasons.append(f"the first trial cannot run, so that `expfw sweep` starts none: {preview.start_error}")
    elif invalid_rows:
        example = f"trial {invalid_rows[0].trial.number} for example: {invalid_rows[0].error}"
        reasons.append(f"{len(invalid_rows)} of {formatting.pluralize(preview.total, 'trial')} cannot run, {example}")
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
    """Builds the models; on a terminal it is seen how far it is."""
    from rich.progress import Progress

    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("building models")
        return build_models(preview, lambda done, total: progress.update(task, completed=done, total=total))


def _track_progress(numbers: Sequence[int]) -> Iterable[int]:
    """Goes over the trials, with a bar on a terminal."""
    from rich.progress import track

    console = make_console(stderr=True)
    return track(numbers, "checking trials", console=console, transient=True, disable=not console.is_terminal)
