"""The commands `expfw runs ...`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from expfw.command_group import Group, accept_option, json_option, runs_dir_option


@click.group(cls=Group)
def runs() -> None:
    """What has run."""


@runs.command("list")
@runs_dir_option
@json_option
def runs_list(runs_dir: Path, as_json: bool) -> None:
    """All runs, newest first, trials of sweeps among them."""
    from expfw import listing

    listing.runs(runs_dir, as_json)


@runs.command("show")
@click.argument("run_id")
@runs_dir_option
@json_option
def runs_show(run_id: str, runs_dir: Path, as_json: bool) -> None:
    """One run: status, metrics, messages, folder. The id may be shortened."""
    from expfw import listing

    listing.run(run_id, runs_dir, as_json)


@runs.command("resume")
@click.argument("run_id")
@click.argument("overrides", nargs=-1)
@accept_option
@click.option("--verify", is_flag=True, help="Only prove that going on is exact: from an old checkpoint, aside.")
@runs_dir_option
def runs_resume(
    run_id: str, overrides: tuple[str, ...], accept_differences: bool, verify: bool, runs_dir: Path
) -> None:
    """Go on with a run that was interrupted, or longer with one that has ended.

    \b
    expfw runs resume k3v9                        from its newest checkpoint, to the bit
    expfw runs resume k3v9 train.epochs=100       longer
    """
    from expfw import again

    if verify:
        sys.exit(again.verify(run_id, runs_dir, overrides, accept_differences))
    sys.exit(again.go_on(run_id, runs_dir, overrides, accept_differences))


@runs.command("rerun")
@click.argument("run_id")
@click.argument("secrets", nargs=-1)
@click.option("--check", is_flag=True, help="Compare every metric and the weights; exit code 1 where they differ.")
@runs_dir_option
def runs_rerun(run_id: str, secrets: tuple[str, ...], check: bool, runs_dir: Path) -> None:
    """Run the recorded configuration once more, as a new run; secrets are not in the record: KEY=VALUE."""
    from expfw import again

    sys.exit(again.rerun(run_id, runs_dir, secrets, check))


@runs.command("sync")
@click.argument("words", nargs=-1, metavar="[RUN_OR_SWEEP_ID]... [tracker...=VALUE]...")
@click.option("--all", "everything", is_flag=True, help="Everything from its beginning, for a store that has lost it.")
@runs_dir_option
@click.pass_obj
def runs_sync(files: tuple[str, ...], words: tuple[str, ...], everything: bool, runs_dir: Path) -> None:
    """Deliver to the trackers what they do not have yet; twice is harmless.

    \b
    expfw runs sync                               whatever is left, of all runs and sweeps
    expfw runs sync k3v9                          of one run, or one sweep with its trials
    expfw runs sync tracker.mlflow.uri=http://... to another server, from the beginning
    """
    from expfw import sync

    sys.exit(sync.sync(words, runs_dir, everything, files))
