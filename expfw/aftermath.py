"""The end of a run whose process died before it could write it down."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expfw import journal, run_record
from expfw.config import from_plain
from expfw.errors import JournalError
from expfw.journal import Journal, Record
from expfw.run_state import FAILED, Run
from expfw.settings import Objective


def record_death(folder: Path, error: str) -> None:
    """Ends the journal in `folder` with FAILED and the reason, where it has a beginning and no end.

    Trackers learn from it as from any other end; what the run had measured until then stays.
    """
    path = folder / journal.NAME
    try:
        records, _ = journal.read(path)
        if not records or records[-1]["kind"] in journal.ENDS:
            return
        run = _as_recorded(folder, records)
    except (JournalError, KeyError):
        return  # nobody can tell what it was; the ledger has the reason
    with Journal(path) as record:
        result = dataclasses.replace(run.result(FAILED, error), seconds=time.time() - records[0]["time"])
        record.write("run_ended", **run_record.end(result))


def _as_recorded(folder: Path, records: Sequence[Record]) -> Run:
    """The run as far as its journal tells it."""
    first = records[0]
    config = from_plain(first["config"])
    run = Run(first["id"], first["name"], folder, config, objective_of(records, config.objective), _forget)
    for record in records:
        if record["kind"] == "metrics":
            run.step = max(run.step, record["step"])
            run.log(record["values"], record["step"])
    run.epoch = sum(record["kind"] == "metrics" and "train/epoch_loss" in record["values"] for record in records)
    return run


def objective_of(records: Sequence[Record], wanted: Objective) -> Objective:
    """What counts in a run: `wanted`, or the loss in training where there turned out to be no validation data."""
    data = next((record for record in records if record["kind"] == "dataset"), None)
    return wanted if data is None else wanted.on(data["samples"])


def _forget(kind: str, **fields: Any) -> None:
    """It is written already."""
