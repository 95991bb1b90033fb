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
"""Lines on the screen."""


def predict(
    run_id: str, paths: Sequence[Path], workspace: Workspace, invert: bool, path: Path | None, output: Output
) -> None:
    """Prints what the run's saved model makes of these files, and writes it to `path` if that is given.

    Raises:
        ExpfwError: see `find_run_with_model`, `read_samples` and `load_model`.
    """
    entry = saved_models.find_run_with_model(run_id, workspace)
    if path is not None:
        check_output(path)
    inputs = samples.read_samples(
        paths, saved_models.get_description(entry), invert
    )  # what does not fit is said before the long import
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
    """A table of the first samples, and how many there are besides."""
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
        rest = "" if path is not None else "; --output FILE.csv or --json gives all"
        print(f"and {count - shown_count:,} more, {count:,} samples in all{rest}")


def _find_common_folder(names: Sequence[str]) -> str:
    """The folder that all are in, with its separator; empty where it is the working directory or there are several."""
    folder = os.path.commonpath([os.path.dirname(name) for name in names]) if not _has_mixed_paths(names) else ""
    return f"{folder}{os.sep}" if folder and len(names) > 1 else ""


def _has_mixed_paths(names: Sequence[str]) -> bool:
    return len({os.path.isabs(name) for name in names}) > 1
