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


@click.group(cls=CommandGroup, short_help="What has run.")
def runs() -> None:
    """What has run.

    \b
    expfw runs list
    expfw runs show k3v9                # ids may be shortened
    expfw runs resume k3v9
    expfw runs predict k3v9 photo.png
    """


@runs.command("list")
@runs_dir_option
@json_option
def runs_list(workspace: Workspace, output: Output) -> None:
    """All runs, newest first, trials of sweeps among them.

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
    """One run: status, metrics, messages, folder. The id may be shortened.

    \b
    expfw runs show k3v9
    """
    from expfw.cli import listing

    listing.show_run(run_id, workspace, output)


@runs.command("compare", short_help="Runs side by side: what differs, and what came of it.")
@click.argument("ids", nargs=-1, metavar="ID ID...")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Also the parameters that are the same.")
@click.option(
    "--html", "page", is_flag=False, flag_value="", metavar="[FILE.html]", help="Write a page with the learning curves."
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
    """Runs side by side: parameters that differ, metrics, surroundings. A sweep's id stands for its trials, best first.

    \b
    expfw runs compare k3v9 c7pq
    expfw runs compare k3v9 y9z7 --metric val/loss  # a run, a sweep
    expfw runs compare k3v9 c7pq --html both.html   # with curves
    """
    from expfw.cli.runs.compare import compare

    if page and not page.endswith((".html", ".htm")):  # `--html k3v9 c7pq`: that is an id
        ids, page = (page, *ids), ""
    compare(ids, workspace, metrics, everything, output, None if page is None else Path(page))


@runs.command("predict", short_help="What the model makes of images, arrays, tables.")
@click.argument("run_id")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--invert", is_flag=True, help="Dark becomes bright, for black on white where training was white on black."
)
@click.option(
    "--output", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write all: FILE.csv, .npz or .json."
)
@runs_dir_option
@json_option
def runs_predict(
    run_id: str, data: tuple[Path, ...], invert: bool, path: Path | None, workspace: Workspace, output: Output
) -> None:
    """What the run's model makes of images, folders of images, .npz, .npy, .csv and IDX files.

    \b
    expfw runs predict k3v9 photo.png scans/     # images, resized for the model
    expfw runs predict k3v9 scan.png --invert    # black on white
    expfw runs predict k3v9 images.gz --output all.csv
    expfw runs predict k3v9 table.csv --json     # one sample per row

    Files of numbers hold raw samples, as the dataset's files do: the model brings its own preprocessing.
    """
    from expfw.cli.runs.predict import predict

    predict(run_id, data, workspace, invert, path, output)


@runs.command("evaluate", short_help="Loss and metrics of the model, on any data.")
@click.argument("run_id")
@click.argument("overrides", nargs=-1, metavar="[dataset...=VALUE]...")
@click.option("--split", metavar="NAME", help="Only train, validation or test; by default all that there are.")
@runs_dir_option
@json_option
def runs_evaluate(
    run_id: str, overrides: tuple[str, ...], split: str | None, workspace: Workspace, output: Output
) -> None:
    """Loss and metrics of the run's model, on its own data or on others.

    \b
    expfw runs evaluate k3v9                        # its own data
    expfw runs evaluate k3v9 dataset.path=/newer    # of that kind, elsewhere
    expfw runs evaluate k3v9 dataset=npz dataset.path=mine.npz
    expfw runs evaluate k3v9 --split test --json

    Neither the run's folder nor any tracker is changed.
    """
    from expfw.cli.runs.evaluate import evaluate

    evaluate(run_id, overrides, workspace, split, output)


@runs.command("export", short_help="Write the model for programs without expfw.")
@click.argument("run_id")
@click.option("--format", "format_", required=True, metavar="NAME", help="keras, savedmodel, tflite, or a plugin's.")
@click.option(
    "--output", "path", type=click.Path(path_type=Path), metavar="PATH", help="File or folder; by default by the id."
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@runs_dir_option
@json_option
def runs_export(
    run_id: str, format_: str, path: Path | None, force: bool, workspace: Workspace, output: Output
) -> None:
    """Write the run's model, with its preprocessing, for programs that do not have expfw.

    \b
    expfw runs export k3v9 --format keras        # for keras.models.load_model
    expfw runs export k3v9 --format savedmodel   # for tf.saved_model.load
    expfw runs export k3v9 --format tflite       # for phones and small devices

    It takes raw samples. It is loaded again and compared with the run's model before it is kept.
    """
    from expfw.cli.runs.export import export

    export(run_id, format_, workspace, path, force, output)


@runs.command("resume", short_help="Go on with a run, exactly, or longer.")
@click.argument("run_id")
@click.argument("overrides", nargs=-1)
@accept_option
@click.option("--verify", is_flag=True, help="Only prove that going on is exact: from an old checkpoint, aside.")
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
    """Go on with a run that was interrupted, or longer with one that has ended.

    \b
    expfw runs resume k3v9                   # from its newest checkpoint
    expfw runs resume k3v9 train.epochs=100  # longer
    """
    from expfw.cli import resume

    if verify:
        sys.exit(resume.verify_run(run_id, workspace, overrides, accept_differences, output))
    sys.exit(resume.resume_run(run_id, workspace, overrides, accept_differences, output))


@runs.command("rerun", short_help="Make a run once more, as a new one.")
@click.argument("run_id")
@click.argument("secrets", nargs=-1)
@click.option("--check", is_flag=True, help="Compare every metric and the weights; exit code 1 where they differ.")
@runs_dir_option
@json_option
def runs_rerun(run_id: str, secrets: tuple[str, ...], check: bool, workspace: Workspace, output: Output) -> None:
    """Run the recorded configuration once more, as a new run; secrets are not in the record: KEY=VALUE.

    \b
    expfw runs rerun k3v9 --check
    """
    from expfw.cli import resume

    sys.exit(resume.rerun(run_id, workspace, secrets, check, output))


@runs.command("sync", short_help="Deliver to the trackers what they do not have yet.")
@click.argument("words", nargs=-1, metavar="[RUN_OR_SWEEP_ID]... [tracker...=VALUE]...")
@click.option("--all", "everything", is_flag=True, help="Everything from its beginning, for a store that has lost it.")
@runs_dir_option
@json_option
def runs_sync(words: tuple[str, ...], everything: bool, workspace: Workspace, output: Output) -> None:
    """Deliver to the trackers what they do not have yet; twice is harmless.

    \b
    expfw runs sync          # whatever is left, of all
    expfw runs sync k3v9     # of a run, or a sweep with its trials
    expfw runs sync tracker.mlflow.uri=http://...   # to another server
    """
    from expfw.cli.runs import sync

    sys.exit(sync.sync(words, workspace, everything, output))


@runs.command("clean")
@click.argument("words", nargs=-1, metavar="[RUN_OR_SWEEP_ID]... [tracker...=VALUE]...")
@click.option(
    "--keep-best", type=click.IntRange(min=1), metavar="N", help="The N best of each sweep, and of runs alike, stay."
)
@click.option("--older-than", metavar="AGE", help="Only what was last written so long ago: 12h, 30d, 8w.")
@click.option("--status", metavar="STATUS,...", help="Only failed, killed, pruned, interrupted or finished ones.")
@click.option("--checkpoints-only", is_flag=True, help="Only checkpoints, of runs that came to their end.")
@click.option("--no-tracker", is_flag=True, help="Leave alone what trackers have of them.")
@click.option("--yes", is_flag=True, help="Delete; without it, only say what would be deleted.")
@runs_dir_option
@json_option
def runs_clean(
    words: tuple[str, ...],
    keep_best: int | None,
    older_than: str | None,
    status: str | None,
    checkpoints_only: bool,
    no_tracker: bool,
    yes: bool,
    workspace: Workspace,
    output: Output,
) -> None:
    """Delete runs and sweeps, from the disk and from the trackers. Of several rules, all must hold.

    \b
    expfw runs clean k3v9 y9z7           # a sweep with its trials
    expfw runs clean --keep-best 5 --older-than 30d   # old ones but the best
    expfw runs clean --status failed,killed
    expfw runs clean --checkpoints-only   # frees what only going on needs

    Nothing is deleted without --yes. What is running, and what others continue from, is spared.
    """
    from expfw.cli.runs.clean import command
    from expfw.cli.runs.clean.rules import Rules, parse_statuses

    overrides = [word for word in words if "=" in word]
    ids = [word for word in words if "=" not in word]
    rules = Rules(ids, keep_best, older_than, parse_statuses(status), checkpoints_only)
    request = command.CleanRequest(rules, workspace, overrides, not no_tracker, yes)
    sys.exit(command.clean(request, output))
