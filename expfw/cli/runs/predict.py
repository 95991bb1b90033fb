"""`expfw runs predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from expfw.reports.console import make_console
from expfw.reports.table import Table
from expfw.runs.inference import samples
from expfw.runs.inference.predictions import check_output, make_predictions
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json
from expfw.system.redirection import redirect_noise
from expfw.tracking import run_index
from expfw.tracking.workspace import Workspace

_MAX_LINES = 20
"""Largest number of samples on the screen."""


def predict(
    run_id: str, data: Sequence[Path], invert: bool, output: Path | None, workspace: Workspace, as_json: bool
) -> None:
    """Prints the predictions of the run's saved model, and writes all of them to `output`."""
    run = run_index.find_run(workspace.runs_dir, run_id)
    model = run.model
    if output is not None:
        check_output(output)
    # Before the long import, so that an invalid file is reported at once.
    inputs = samples.read_samples(data, model, invert)
    with redirect_noise(Path(os.devnull)):
        predictions = make_predictions(inputs.names, model.predict(inputs.raw), model.data)
    for note in inputs.notes:
        print(note, file=sys.stderr)
    if output is not None:
        predictions.write(output)
    if as_json:
        print_json(predictions.describe_samples())
        return
    count = len(inputs.names)
    shown_count = count if count <= _MAX_LINES + 1 else _MAX_LINES
    prefix = _find_common_folder(inputs.names)
    if prefix:
        print(f"in {prefix}")
    columns = ["sample", *(title for model_output in predictions.outputs for title in model_output.make_header())]
    rows = [
        [name.removeprefix(prefix), *(cell for part in predictions.outputs for cell in part.format_cells(row))]
        for row, name in enumerate(inputs.names[:shown_count])
    ]
    make_console().print(Table(columns, rows))
    if shown_count < count:
        rest = "" if output is not None else "; for all: --output FILE.csv or --json"
        print(f"and {count - shown_count:,} more, {count:,} samples in total{rest}")
    if output is not None:
        print(f"{pluralize(count, 'prediction')} {'is' if count == 1 else 'are'} in {output}")


def _find_common_folder(names: Sequence[str]) -> str:
    """Returns the common folder with its separator; empty for the working directory or several folders."""
    if len(names) < 2 or len({os.path.isabs(name) for name in names}) > 1:
        return ""
    folder = os.path.commonpath([os.path.dirname(name) for name in names])
    return f"{folder}{os.sep}" if folder else ""
