"""`expfw runs predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from expfw.cli.output import Output
from expfw.cli.runs import saved_models
from expfw.reports import console, tables
from expfw.runs.inference import samples
from expfw.runs.inference.predictions import Predictions, check_output, make_predictions
from expfw.system import formatting
from expfw.system.json_output import print_json
from expfw.tracking.workspace import Workspace

_MAX_LINES = 20
"""Largest number of samples on the screen."""


def predict(
    run_id: str, paths: Sequence[Path], workspace: Workspace, invert: bool, path: Path | None, output: Output
) -> None:
    """Prints the predictions of the run's saved model.

    Args:
        run_id: ID of the run.
        paths: files and folders of samples.
        workspace: the runs folder.
        invert: whether to swap dark and bright in images.
        path: file for all predictions, or None.
        output: output format.

    Raises:
        ExpfwError: see `find_run_with_model`, `read_samples` and `load_model`.
    """
    entry = saved_models.find_run_with_model(run_id, workspace)
    if path is not None:
        check_output(path)
    # Before the long import, so that an invalid file is reported at once.
    inputs = samples.read_samples(paths, saved_models.get_description(entry), invert)
    with saved_models.silenced_frameworks():
        model = saved_models.load_saved_model(entry)
        results = make_predictions(inputs.names, model.predict(inputs.raw), model.data)
    for note in inputs.notes:
        print(note, file=sys.stderr)
    if path is not None:
        results.write(path)
    if output.is_json:
        print_json(results.describe_samples())
        return
    print_predictions(results, path)
    if path is not None:
        are = "is" if len(results.sample_names) == 1 else "are"
        print(f"{formatting.pluralize(len(results.sample_names), 'prediction')} {are} in {path}")


def print_predictions(results: Predictions, path: Path | None) -> None:
    """Prints a table of the first samples and the number of all samples."""
    count = len(results.sample_names)
    shown_count = count if count <= _MAX_LINES + 1 else _MAX_LINES
    header = ["sample", *(word for model_output in results.outputs for word in model_output.make_header())]
    prefix = _find_common_folder(results.sample_names)
    rows = [
        [
            name.removeprefix(prefix),
            *(cell for model_output in results.outputs for cell in model_output.format_cells(row)),
        ]
        for row, name in enumerate(results.sample_names[:shown_count])
    ]
    if prefix:
        print(f"in {prefix}")
    console.make_console().print(tables.make_plain_table(header, rows))
    if shown_count < count:
        rest = "" if path is not None else "; for all: --output FILE.csv or --json"
        print(f"and {count - shown_count:,} more, {count:,} samples in total{rest}")


def _find_common_folder(names: Sequence[str]) -> str:
    """Returns the common folder with its separator; empty for the working directory or several folders."""
    folder = os.path.commonpath([os.path.dirname(name) for name in names]) if not _has_mixed_paths(names) else ""
    return f"{folder}{os.sep}" if folder and len(names) > 1 else ""


def _has_mixed_paths(names: Sequence[str]) -> bool:
    return len({os.path.isabs(name) for name in names}) > 1
