"""The commands `expfw runs ...`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from expfw.cli.completion.candidates import complete_export_formats, complete_ids, complete_list, complete_overrides
from expfw.cli.groups import CommandGroup, accept_option, run_argument, trust_option

_PATH = click.Path(path_type=Path)
_STATUSES = ("failed", "killed", "pruned", "interrupted", "finished")
_UNIT_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_ids_and_overrides_argument = click.argument(
    "ids_and_overrides",
    nargs=-1,
    metavar="[RUN_OR_SWEEP_ID]... [tracker...=VALUE]...",
    shell_complete=complete_ids("runs", "sweeps"),
)


def _parse_age(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """Returns the seconds of `12h`, `30d` or `8w`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a number with h, d or w, such as 30d or 12h.")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def _split_statuses(context: click.Context, option: click.Parameter, text: str | None) -> list[str]:
    statuses = click.Choice(_STATUSES, case_sensitive=False)
    return [statuses.convert(word.strip(), option, context) for word in text.split(",")] if text else []


runs = CommandGroup(
    "runs",
    help="""List, compare, resume and delete runs.

    \b
    expfw runs list
    expfw runs show k3v9                # IDs can be shortened
    expfw runs resume k3v9
    expfw runs predict k3v9 photo.png
    """,
)
runs.add(
    "list",
    "expfw.cli.listing.list_runs",
    help="""List all runs, newest first, including trials of sweeps.

    \b
    expfw runs list
    expfw runs list --json
    """,
)
runs.add(
    "show",
    "expfw.cli.listing.show_run",
    run_argument,
    help="""Show a run's status, metrics, messages and folder.

    \b
    expfw runs show k3v9

    RUN_ID can be shortened to its first characters.
    """,
)
runs.add(
    "compare",
    "expfw.cli.runs.compare.compare",
    click.argument("ids", nargs=-1, metavar="ID ID...", shell_complete=complete_ids("runs", "sweeps")),
    click.option(
        "--metric", "metrics", multiple=True, metavar="NAME", help="Compare only this metric. Can be repeated."
    ),
    click.option("--all", "show_all", is_flag=True, help="Also show parameters that are equal."),
    click.option(
        "--html", "page", is_flag=False, flag_value="", metavar="[FILE.html]", help="Write a page with learning curves."
    ),
    help="""Compare the parameters, metrics and environments of runs.

    \b
    expfw runs compare k3v9 c7pq
    expfw runs compare k3v9 y9z7 --metric val/loss  # a run, a sweep
    expfw runs compare k3v9 c7pq --html both.html   # with curves

    The ID of a sweep selects all its trials, best first.
    """,
)
runs.add(
    "predict",
    "expfw.cli.runs.predict.predict",
    run_argument,
    click.argument("data", nargs=-1, required=True, type=_PATH),
    click.option("--invert", is_flag=True, help="Swap dark and bright, for a model trained on white-on-black images."),
    click.option("--output", type=_PATH, metavar="FILE", help="Write all predictions to FILE.csv, .npz or .json."),
    trust_option,
    help="""Predict with the run's model from images, arrays or tables.

    \b
    expfw runs predict k3v9 photo.png scans/     # resized for the model
    expfw runs predict k3v9 scan.png --invert    # a black-on-white image
    expfw runs predict k3v9 images.gz --output all.csv
    expfw runs predict k3v9 table.csv --json     # one sample per row

    Reads images, folders of images, .npz, .npy, .csv and IDX files. Files of numbers must contain raw samples, like
    the dataset's files. The model includes its preprocessing.
    """,
)
runs.add(
    "evaluate",
    "expfw.cli.runs.evaluate.evaluate",
    run_argument,
    click.argument("overrides", nargs=-1, metavar="[dataset...=VALUE]...", shell_complete=complete_overrides),
    click.option(
        "--split",
        metavar="NAME",
        shell_complete=complete_list(("train", "validation", "test")),
        help="Evaluate only this split: train, validation or test.  [default: all]",
    ),
    trust_option,
    help="""Compute loss and metrics of the run's model on any data.

    \b
    expfw runs evaluate k3v9                        # its own data
    expfw runs evaluate k3v9 dataset.path=/newer    # same dataset, other folder
    expfw runs evaluate k3v9 dataset=npz dataset.path=mine.npz
    expfw runs evaluate k3v9 --split test --json

    Changes neither the run folder nor a tracker.
    """,
)
runs.add(
    "export",
    "expfw.cli.runs.export.export",
    run_argument,
    click.option(
        "--format",
        required=True,
        metavar="NAME",
        shell_complete=complete_export_formats,
        help="keras, savedmodel, tflite, or a format of a plugin.",
    ),
    click.option(
        "--output", type=_PATH, metavar="PATH", help="File or folder to write.  [default: named by the run ID]"
    ),
    click.option("--force", is_flag=True, help="Replace an existing file or folder."),
    trust_option,
    help="""Export the run's model for programs without expfw.

    \b
    expfw runs export k3v9 --format keras        # for keras.models.load_model
    expfw runs export k3v9 --format savedmodel   # for tf.saved_model.load
    expfw runs export k3v9 --format tflite       # for phones and small devices

    The exported model includes its preprocessing: it accepts raw samples. The command loads it and compares its outputs
    with the run's model.
    """,
)
runs.add(
    "resume",
    "expfw.cli.resume.resume_run",
    run_argument,
    click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_overrides),
    accept_option,
    trust_option,
    click.option(
        "--verify", is_flag=True, help="Only check that resuming from the oldest checkpoint is bit-identical."
    ),
    help="""Resume an interrupted run, or train a finished run longer.

    \b
    expfw runs resume k3v9                   # from its latest checkpoint
    expfw runs resume k3v9 train.epochs=100  # longer
    """,
)
runs.add(
    "rerun",
    "expfw.cli.resume.rerun",
    run_argument,
    click.argument("secrets", nargs=-1, metavar="[KEY=VALUE]..."),
    click.option("--check", is_flag=True, help="Compare all metrics and weights with the original run."),
    trust_option,
    help="""Repeat a run as a new run, with the recorded configuration.

    \b
    expfw runs rerun k3v9 --check

    Secrets are not recorded; give them as KEY=VALUE. With --check, the exit code is 1 if the runs differ.
    """,
)
runs.add(
    "sync",
    "expfw.cli.runs.sync.sync",
    _ids_and_overrides_argument,
    click.option(
        "--all", "redeliver", is_flag=True, help="Deliver everything again, for a tracker that lost its data."
    ),
    trust_option,
    help="""Deliver missing records to the trackers. You can repeat the command safely.

    \b
    expfw runs sync          # all runs and sweeps
    expfw runs sync k3v9     # a run, or a sweep with its trials
    expfw runs sync tracker.mlflow.uri=http://...   # to another server
    """,
)
runs.add(
    "clean",
    "expfw.cli.runs.clean.command.clean",
    _ids_and_overrides_argument,
    click.option(
        "--keep-best",
        type=click.IntRange(min=1),
        metavar="N",
        help="Keep the N best trials of each sweep, and the N best single runs of each dataset and objective.",
    ),
    click.option(
        "--older-than", metavar="AGE", callback=_parse_age, help="Only runs whose last record is older: 12h, 30d, 8w."
    ),
    click.option(
        "--status",
        "statuses",
        metavar="STATUS,...",
        callback=_split_statuses,
        shell_complete=complete_list(_STATUSES),
        help="Only failed, killed, pruned, interrupted or finished runs.",
    ),
    click.option("--checkpoints-only", is_flag=True, help="Delete only the checkpoints of finished and pruned runs."),
    click.option("--no-tracker", is_flag=True, help="Delete nothing from the trackers."),
    trust_option,
    click.option("--yes", is_flag=True, help="Delete. Without this option, only list the runs."),
    help="""Delete runs and sweeps from the disk and the trackers.

    \b
    expfw runs clean k3v9 y9z7           # a run, a sweep with its trials
    expfw runs clean --keep-best 5 --older-than 30d   # old runs, not the best
    expfw runs clean --status failed,killed
    expfw runs clean --checkpoints-only   # keep runs and models

    Deletes only runs that match all given rules, and nothing without --yes. Keeps runs in progress, and runs from
    which remaining runs started, with train.begin_from or callback.transfer.model.
    """,
)
