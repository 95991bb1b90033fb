"""`expfw runs predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from expfw.cli.runs import saved_models
from expfw.reports import console, tables
from expfw.runs.inference import samples
from expfw.runs.inference.predictions import Predictions, check_output, predictions
from expfw.system import formatting
from expfw.system.json_output import print_json

_MOST = 20
"""Lines on the screen."""


def predict(
    run_id: str, paths: Sequence[Path], runs_dir: Path, invert: bool, output: Path | None, as_json: bool
) -> None:
    """Prints what the run's saved model makes of these files, and writes it to `output` where that is given.

    Raises:
        ExpfwError: see `trained.find`, `samples.read` and `load_model`.
    """
    entry = saved_models.find(run_id, runs_dir)
    if output is not None:
        check_output(output)
    given = samples.read(
        paths, saved_models.described(entry), invert
    )  # what does not fit is said before the long import
    with saved_models.quietly():
        model = saved_models.load(entry)
        made = predictions(given.names, model.predict(given.raw), model.data)
    for note in given.notes:
        print(note, file=sys.stderr)
    if output is not None:
        made.write(output)
    if as_json:
        print_json(made.as_json())
        return
    show(made, output)
    if output is not None:
        are = "is" if len(made.names) == 1 else "are"
        print(f"{formatting.many(len(made.names), 'prediction')} {are} in {output}")


def show(made: Predictions, output: Path | None) -> None:
    """A table of the first samples, and how many there are besides."""
    count = len(made.names)
    shown = count if count <= _MOST + 1 else _MOST
    header = ["sample", *(word for one in made.outputs for word in one.header())]
    prefix = _common(made.names)
    rows = [
        [name.removeprefix(prefix), *(cell for one in made.outputs for cell in one.cells(row))]
        for row, name in enumerate(made.names[:shown])
    ]
    if prefix:
        print(f"in {prefix}")
    console.screen().print(tables.plain_table(header, rows))
    if shown < count:
        rest = "" if output is not None else "; --output FILE.csv or --json gives all"
        print(f"and {count - shown:,} more, {count:,} samples in all{rest}")


def _common(names: Sequence[str]) -> str:
    """The folder that all are in, with its separator; empty where it is the working directory or there are several."""
    folder = os.path.commonpath([os.path.dirname(name) for name in names]) if not _mixed(names) else ""
    return f"{folder}{os.sep}" if folder and len(names) > 1 else ""


def _mixed(names: Sequence[str]) -> bool:
    return len({os.path.isabs(name) for name in names}) > 1
