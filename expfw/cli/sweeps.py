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
    """Sweeps that have run.

    \b
    expfw sweeps list
    expfw sweeps status y9z7 --watch    # ids may be shortened
    expfw sweeps resume y9z7
    """


@sweeps.command("list")
@runs_dir_option
@json_option
def sweeps_list(workspace: Workspace, output: Output) -> None:
    """All sweeps, newest first.

    \b
    expfw sweeps list
    """
    from expfw.cli import listing

    listing.list_sweeps(workspace, output)


@sweeps.command("status")
@click.argument("sweep_id")
@click.option("-w", "--watch", is_flag=True, help="A live table, until the sweep ends or Ctrl-C.")
@runs_dir_option
@json_option
def sweeps_status(sweep_id: str, watch: bool, workspace: Workspace, output: Output) -> None:
    """One sweep: its trials as they are now, best first. The id may be shortened.

    \b
    expfw sweeps status y9z7
    expfw sweeps status y9z7 --watch
    """
    from expfw.cli import listing

    listing.show_sweep(sweep_id, workspace, output, watch)


@sweeps.command("report", short_help="Write the HTML report anew, also while it goes on.")
@click.argument("sweep_id")
@click.option("--open", "opened", is_flag=True, help="Open it in the browser.")
@runs_dir_option
@json_option
def sweeps_report(sweep_id: str, opened: bool, workspace: Workspace, output: Output) -> None:
    """Write the HTML report of a sweep anew, also while it goes on: tables and figures in one file.

    \b
    expfw sweeps report y9z7 --open
    """
    from expfw.cli import listing

    listing.write_sweep_report(sweep_id, workspace, opened, output)


@sweeps.command("resume", short_help="Go on with a sweep that did not come to its end.")
@click.argument("sweep_id")
@accept_option
@runs_dir_option
@json_option
def sweeps_resume(sweep_id: str, accept_differences: bool, workspace: Workspace, output: Output) -> None:
    """Go on with a sweep: interrupted trials from their checkpoints, failed ones anew, those that are done stay.

    \b
    expfw sweeps resume y9z7
    """
    from expfw.cli import resume

    sys.exit(resume.resume_sweep(sweep_id, workspace, accept_differences, output))


@sweeps.command("retry", short_help="Make trials anew that have failed.")
@click.argument("sweep_id")
@click.argument("numbers", nargs=-1, type=int, metavar="[TRIAL]...")
@click.option("--failed", is_flag=True, help="All trials that have failed.")
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
    """Make trials anew that have failed; whatever else became of the sweep stays as it is.

    \b
    expfw sweeps retry y9z7 --failed
    expfw sweeps retry y9z7 3 5       # trials 3 and 5
    """
    from expfw.cli import resume

    sys.exit(resume.retry_trials(sweep_id, workspace, numbers, failed, accept_differences, output))
