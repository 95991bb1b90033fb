"""The commands `expfw sweeps ...`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from expfw.cli.groups import CommandGroup, accept_option, json_option, runs_dir_option
from expfw.cli.output import Output

if TYPE_CHECKING:
    from expfw.tracking.workspace import Workspace


@click.group(cls=CommandGroup)
def sweeps() -> None:
    """List, watch, resume and retry sweeps.

    \b
    expfw sweeps list
    expfw sweeps status y9z7 --watch    # IDs can be shortened
    expfw sweeps resume y9z7
    """


@sweeps.command("list")
@runs_dir_option
@json_option
def sweeps_list(workspace: Workspace, output: Output) -> None:
    """List all sweeps, newest first.

    \b
    expfw sweeps list
    """
    from expfw.cli import listing

    listing.list_sweeps(workspace, output)


@sweeps.command("status")
@click.argument("sweep_id")
@click.option("-w", "--watch", is_flag=True, help="Update the table until the sweep ends. Stop with Ctrl-C.")
@runs_dir_option
@json_option
def sweeps_status(sweep_id: str, watch: bool, workspace: Workspace, output: Output) -> None:
    """Show a sweep and its trials, best first.

    \b
    expfw sweeps status y9z7
    expfw sweeps status y9z7 --watch

    SWEEP_ID can be shortened to its first characters.
    """
    from expfw.cli import listing

    listing.show_sweep(sweep_id, workspace, output, watch)


@sweeps.command("report", short_help="Write the HTML report of a sweep.")
@click.argument("sweep_id")
@click.option("--open", "opened", is_flag=True, help="Open the report in the browser.")
@runs_dir_option
@json_option
def sweeps_report(sweep_id: str, opened: bool, workspace: Workspace, output: Output) -> None:
    """Write the HTML report of a sweep: tables and figures in one file.

    \b
    expfw sweeps report y9z7 --open

    Replaces an existing report. The sweep may still be running.
    """
    from expfw.cli import listing

    listing.write_sweep_report(sweep_id, workspace, opened, output)


@sweeps.command("resume", short_help="Resume a sweep that did not finish.")
@click.argument("sweep_id")
@accept_option
@runs_dir_option
@json_option
def sweeps_resume(sweep_id: str, accept_differences: bool, workspace: Workspace, output: Output) -> None:
    """Resume a sweep that did not finish.

    \b
    expfw sweeps resume y9z7

    Interrupted trials resume from their checkpoints; failed trials start again; finished trials are kept.
    """
    from expfw.cli import resume

    sys.exit(resume.resume_sweep(sweep_id, workspace, accept_differences, output))


@sweeps.command("retry", short_help="Retry failed trials.")
@click.argument("sweep_id")
@click.argument("numbers", nargs=-1, type=int, metavar="[TRIAL]...")
@click.option("--failed", is_flag=True, help="Retry all failed trials.")
@accept_option
@runs_dir_option
@json_option
def sweeps_retry(
    sweep_id: str,
    numbers: tuple[int, ...],
    failed: bool,
    accept_differences: bool,
    workspace: Workspace,
    output: Output,
) -> None:
    """Retry failed trials of a sweep. All other trials stay unchanged.

    \b
    expfw sweeps retry y9z7 --failed
    expfw sweeps retry y9z7 3 5       # trials 3 and 5
    """
    from expfw.cli import resume

    sys.exit(resume.retry_trials(sweep_id, workspace, numbers, failed, accept_differences, output))
