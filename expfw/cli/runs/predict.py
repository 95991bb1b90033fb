"""`expfw runs predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from expfw.reports.console import make_console
from expfw.reports.table import Table
from expfw.runs.inference import samples
from expfw.runs.inference.predictions import Predictions, check_output
from expfw.system.formatting import pluralize
from expfw.system.json_output import print_json
from expfw.system.redirection import redirect_noise
from expfw.tracking.run_index import Workspace

_MAX_LINES = 20
"""Largest number of samples on the screen."""


def predict(
    run_id: str, data: Sequence[Path], invert: bool, output: Path | None, workspace: Workspace, as_json: bool
) -> None:
    """Prints the predictions of the run's saved model, and writes all of them to `output`."""
    run = workspace.find_run(run_id)
    model = run.model
    if output is not None:
        check_output(output)
    # Before the long import, so that an invalid file is reported at once.
    inputs = samples.read_samples(data, model, invert)
    with redirect_noise():
        predictions = Predictions(inputs.names, model.predict(inputs.raw), model.data)
    for note in inputs.notes:
        print(note, file=sys.stderr)
    if output is not None:
        predictions.write(output)
    if as_json:
        print_json(predictions.describe_samples())
        return
    count = len(inputs.names)
    shown_count = count if count <= _MAX_LINES + 1 else _MAX_LINES
    folders = [os.path.dirname(name) for name in inputs.names]
    has_common_root = count > 1 and len(set(map(os.path.isabs, folders))) == 1
    common_folder = os.path.commonpath(folders) if has_common_root else ""
    prefix = f"{common_folder}{os.sep}" if common_folder else ""
    if prefix:
        print(f"in {prefix}")
    columns = ["sample", *(title for model_output in predictions.outputs for title in model_output.format_cells(0))]
    rows = [
        [name.removeprefix(prefix), *(cell for part in predictions.outputs for cell in part.format_cells(row).values())]
        for row, name in enumerate(inputs.names[:shown_count])
    ]
    make_console().print(Table(columns, rows))
    if shown_count < count:
        rest = "" if output is not None else "; for all: --output FILE.csv or --json"
        print(f"and {count - shown_count:,} more, {count:,} samples in total{rest}")
    if output is not None:
        print(f"{pluralize(count, 'prediction')} {'is' if count == 1 else 'are'} in {output}")
