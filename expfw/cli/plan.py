"""The command `sweep --plan`: lists the trials of a sweep without running them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from expfw.errors import ExpfwError
from expfw.plugins.catalogue import Catalogue
from expfw.reports.console import make_console
from expfw.sweeps.plan import table
from expfw.sweeps.plan.build import Builds, build_models
from expfw.sweeps.plan.trials import Preview, ProgressReport, make_preview
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json, reserve_stdout_for_json

RUN_FAILED = 1


def print_plan(
    catalogue: Catalogue,
    overrides: Sequence[str],
    config_name: str,
    config_dir: str | None,
    build: bool,
    everything: bool,
    as_json: bool,
) -> int:
    """Prints the trials of a sweep; returns the exit code: 1 if a model cannot be trained, 2 if a trial cannot run."""
    builds = None
    with reserve_stdout_for_json(), _show_progress("checking trials") as report_progress:
        preview = make_preview(overrides, catalogue, config_name, config_dir, report_progress)
    if not as_json:
        table.print_preview(make_console(), preview, everything)
    if build:
        with reserve_stdout_for_json(), _show_progress("building models") as report_progress:
            builds = build_models(preview, report_progress)
    code, reason = _get_verdict(preview, builds)
    if as_json:
        print_json(table.to_json(preview, builds))
    elif builds is not None:
        table.print_builds(make_console(), preview, builds)
        if code:  # the list of trials is far above
            make_console().print(f"exit code {code}: {reason}", soft_wrap=True)
    return code


def _get_verdict(preview: Preview, builds: Builds | None) -> tuple[int, str]:
    """Returns the exit code and its reason."""
    code, reasons, invalid_rows = 0, [], preview.invalid_rows
    models = builds.models if builds is not None else []
    if failed_count := sum(model.error is not None for model in models):
        code, reasons = RUN_FAILED, [f"{failed_count} of {pluralize(len(models), 'model')} cannot be trained"]
    if preview.start_error is not None:
        reasons = [f"the first trial cannot run, so `expfw sweep` starts no trial: {preview.start_error}", *reasons]
    elif invalid_rows:
        example = f"the first is trial {invalid_rows[0].trial.number}: {invalid_rows[0].error}"
        reasons = [f"{len(invalid_rows)} of {pluralize(preview.total, 'trial')} cannot run; {example}", *reasons]
    return ExpfwError.exit_code if preview.start_error is not None or invalid_rows else code, "; ".join(reasons)


@contextmanager
def _show_progress(title: str) -> Iterator[ProgressReport]:
    """Shows a progress bar on a terminal; yields the function that updates it."""
    from rich.progress import Progress

    console = make_console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title)
        yield lambda done, total: progress.update(task, completed=done, total=total)
