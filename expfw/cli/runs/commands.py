"""The commands `expfw runs ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expfw.cli.groups import CommandGroup, accept_option, json_option, runs_dir_option
from expfw.cli.output import Output

if TYPE_CHECKING:
    from expfw.tracking.workspace import Workspace


@click.group(cls=CommandGroup)
def runs() -> None:
    """List, compare, resume and delete runs.

    \b
    expfw runs list
    expfw runs show k3v9                # IDs can be shortened
    expfw runs resume k3v9
    expfw runs predict k3v9 photo.png
    """


@runs.command("list")
@runs_dir_option
@json_option
def runs_list(workspace: Workspace, output: Output) -> None:
    """List all runs, newest first, including trials of sweeps.

    \b
    expfw runs list
    expfw runs list --json
    """
    from expfw.cli import listing

    listing.list_runs(workspace, output)


@runs.command("show")
@click.argument("run_id")
@runs_dir_option
@json_option
def runs_show(run_id: str, workspace: Workspace, output: Output) -> None:
    """Show a run's status, metrics, messages and folder.

    \b
    expfw runs show k3v9

    RUN_ID can be shortened to its first characters.
    """
    from expfw.cli import listing

    listing.show_run(run_id, workspace, output)


@runs.command("compare", short_help="Compare the parameters, metrics and environments of runs.")
@click.argument("ids", nargs=-1, metavar="ID ID...")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Compare only this metric. Can be repeated.")
@click.option("--all", "everything", is_flag=True, help="Also show parameters that are equal.")
@click.option(
    "--html", "page", is_flag=False, flag_value="", metavar="[FILE.html]", help="Write a page with learning curves."
)
@runs_dir_option
@json_option
def runs_compare(
    ids: tuple[str, ...],
    metrics: tuple[str, ...],
    everything: bool,
    page: str | None,
    workspace: Workspace,
    output: Output,
) -> None:
    """Compare the parameters, metrics and environments of runs.

    \b
    expfw runs compare k3v9 c7pq
    expfw runs compare k3v9 y9z7 --metric val/loss  # a run, a sweep
    expfw runs compare k3v9 c7pq --html both.html   # with curves

    The ID of a sweep selects all its trials, best first.
    """
    from expfw.cli.runs.compare import compare

    if page and not page.endswith((".html", ".htm")):  # `--html k3v9 c7pq`: an ID, not a file
        ids, page = (page, *ids), ""
    compare(ids, workspace, metrics, everything, output, None if page is None else Path(page))


@runs.command("predict", short_help="Predict with the model from images, arrays or tables.")
@click.argument("run_id")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--invert", is_flag=True, help="Swap dark and bright, for a model trained on white-on-black images.")
@click.option(
    "--output",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all predictions to FILE.csv, .npz or .json.",
)
@runs_dir_option
@json_option
def runs_predict(
    run_id: str, data: tuple[Path, ...], invert: bool, path: Path | None, workspace: Workspace, output: Output
) -> None:
    """Predict with the run's model from images, folders of images, .npz, .npy, .csv and IDX files.

    \b
    expfw runs predict k3v9 photo.png scans/     # resized for the model
    expfw runs predict k3v9 scan.png --invert    # a black-on-white image
    expfw runs predict k3v9 images.gz --output all.csv
    expfw runs predict k3v9 table.csv --json     # one sample per row

    Files of numbers must contain raw samples, like the dataset's files. The model includes its preprocessing.
    """
    from expfw.cli.runs.predict import predict

    predict(run_id, data, workspace, invert, path, output)


@runs.command("evaluate", short_help="Compute loss and metrics of the model on any data.")
@click.argument("run_id")
@click.argument("overrides", nargs=-1, metavar="[dataset...=VALUE]...")
@click.option("--split", metavar="NAME", help="Evaluate only this split: train, validation or test.  [default: all]")
@runs_dir_option
@json_option
def runs_evaluate(
    run_id: str, overrides: tuple[str, ...], split: str | None, workspace: Workspace, output: Output
) -> None:
    """Compute loss and metrics of the run's model on any data.

    \b
    expfw runs evaluate k3v9                        # its own data
    expfw runs evaluate k3v9 dataset.path=/newer    # same dataset, other folder
    expfw runs evaluate k3v9 dataset=npz dataset.path=mine.npz
    expfw runs evaluate k3v9 --split test --json

    Changes neither the run folder nor a tracker.
    """
    from expfw.cli.runs.evaluate import evaluate

    evaluate(run_id, overrides, workspace, split, output)


@runs.command("export", short_help="Export the model for programs without expfw.")
@click.argument("run_id")
@click.option(
    "--format", "format_", required=True, metavar="NAME", help="keras, savedmodel, tflite, or a format of a plugin."
)
@click.option(
    "--output",
    "path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="File or folder to write.  [default: named by the run ID]",
)
@click.option("--force", is_flag=True, help="Replace an existing file or folder.")
@runs_dir_option
@json_option
def runs_export(
    run_id: str, format_: str, path: Path | None, force: bool, workspace: Workspace, output: Output
) -> None:
    """Export the run's model, with its preprocessing, for programs without expfw.

    \b
    expfw runs export k3v9 --format keras        # for keras.models.load_model
    expfw runs export k3v9 --format savedmodel   # for tf.saved_model.load
    expfw runs export k3v9 --format tflite       # for phones and small devices

    The exported model accepts raw samples. The command loads it and compares its outputs with the run's model.
    """
    from expfw.cli.runs.export import export

    export(run_id, format_, workspace, path, force, output)


@runs.command("resume", short_help="Resume an interrupted run, or train a finished run longer.")
@click.argument("run_id")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@accept_option
@click.option("--verify", is_flag=True, help="Only check that resuming from the oldest checkpoint is bit-identical.")
@runs_dir_option
@json_option
def runs_resume(
    run_id: str,
    overrides: tuple[str, ...],
    accept_differences: bool,
    verify: bool,
    workspace: Workspace,
    output: Output,
) -> None:
    """Resume an interrupted run, or train a finished run longer.

    \b
    expfw runs resume k3v9                   # from its latest checkpoint
    expfw runs resume k3v9 train.epochs=100  # longer
    """
    from expfw.cli import resume

    if verify:
        sys.exit(resume.verify_run(run_id, workspace, overrides, accept_differences, output))
    sys.exit(resume.resume_run(run_id, workspace, overrides, accept_differences, output))


@runs.command("rerun", short_help="Repeat a run as a new run.")
@click.argument("run_id")
@click.argument("secrets", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--check", is_flag=True, help="Compare all metrics and weights with the original run.")
@runs_dir_option
@json_option
def runs_rerun(run_id: str, secrets: tuple[str, ...], check: bool, workspace: Workspace, output: Output) -> None:
    """Repeat a run as a new run, with the recorded configuration.

    \b
    expfw runs rerun k3v9 --check

    Secrets are not recorded; give them as KEY=VALUE. With --check, the exit code is 1 if the runs differ.
    """
    from expfw.cli import resume

    sys.exit(resume.rerun(run_id, workspace, secrets, check, output))


@runs.command("sync", short_help="Deliver missing records to the trackers.")
@click.argument("ids_and_overrides", nargs=-1, metavar="[RUN_OR_SWEEP_ID]... [tracker...=VALUE]...")
@click.option("--all", "everything", is_flag=True, help="Deliver everything again, for a tracker that lost its data.")
@runs_dir_option
@json_option
def runs_sync(ids_and_overrides: tuple[str, ...], everything: bool, workspace: Workspace, output: Output) -> None:
    """Deliver missing records to the trackers. You can repeat the command safely.

    \b
    expfw runs sync          # all runs and sweeps
    expfw runs sync k3v9     # a run, or a sweep with its trials
    expfw runs sync tracker.mlflow.uri=http://...   # to another server
    """
    from expfw.cli.runs import sync

    sys.exit(sync.sync(ids_and_overrides, workspace, everything, output))


@runs.command("clean")
@click.argument("ids_and_overrides", nargs=-1, metavar="[RUN_OR_SWEEP_ID]... [tracker...=VALUE]...")
@click.option(
    "--keep-best",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the N best trials of each sweep, and the N best single runs of each dataset and objective.",
)
@click.option("--older-than", metavar="AGE", help="Only runs whose last record is older: 12h, 30d, 8w.")
@click.option("--status", metavar="STATUS,...", help="Only failed, killed, pruned, interrupted or finished runs.")
@click.option("--checkpoints-only", is_flag=True, help="Delete only the checkpoints of finished and pruned runs.")
@click.option("--no-tracker", is_flag=True, help="Delete nothing from the trackers.")
@click.option("--yes", is_flag=True, help="Delete. Without this option, only list the runs.")
@runs_dir_option
@json_option
def runs_clean(
    ids_and_overrides: tuple[str, ...],
    keep_best: int | None,
    older_than: str | None,
    status: str | None,
    checkpoints_only: bool,
    no_tracker: bool,
    yes: bool,
    workspace: Workspace,
    output: Output,
) -> None:
    """Delete runs and sweeps from the disk and the trackers.

    \b
    expfw runs clean k3v9 y9z7           # a run, a sweep with its trials
    expfw runs clean --keep-best 5 --older-than 30d   # old runs, not the best
    expfw runs clean --status failed,killed
    expfw runs clean --checkpoints-only   # keep runs and models

    Deletes only runs that match all given rules, and nothing without --yes. Keeps runs in progress, and runs from
    which remaining runs started, with train.begin_from or callback.transfer.model.
    """
    from expfw.cli.runs.clean import command
    from expfw.cli.runs.clean.rules import Rules, parse_statuses

    overrides = [word for word in ids_and_overrides if "=" in word]
    ids = [word for word in ids_and_overrides if "=" not in word]
    rules = Rules(ids, keep_best, older_than, parse_statuses(status), checkpoints_only)
    request = command.CleanRequest(rules, workspace, overrides, not no_tracker, yes)
    sys.exit(command.clean(request, output))
