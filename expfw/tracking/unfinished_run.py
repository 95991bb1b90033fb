"""Unfinished runs: the result so far, and the end record of a run with a dead process."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from expfw.api.result import FAILED, Result
from expfw.api.run import Run
from expfw.api.run_config import Objective
from expfw.config.freeze import build_config
from expfw.errors import JournalError
from expfw.tracking import journal, run_record
from expfw.tracking.journal import Journal, Record
from expfw.tracking.run_index import RUNNING


def record_death(folder: Path, error: str) -> None:
    """Ends the journal in `folder` with FAILED and the error, if the run has started but not ended.

    Trackers get this end like any other; the recorded metrics are kept.
    """
    result = read_unfinished_result(folder, FAILED, error)
    if result is not None:
        with Journal(folder / journal.NAME) as run_journal:
            run_journal.write("run_ended", **run_record.make_end_record(result))


def read_unfinished_result(folder: Path, status: str = RUNNING, error: str | None = None) -> Result | None:
    """Returns the result so far of a run that has not ended; None if it has ended or its journal is not readable."""
    try:
        records, _ = journal.read_records(folder / journal.NAME)
        if not records or records[-1]["kind"] in journal.END_KINDS:
            return None
        run = _rebuild_run(folder, records)
    except (JournalError, KeyError):
        return None  # without a configuration there is no result
    return dataclasses.replace(run.result(status, error), seconds=time.time() - records[0]["time"])


def _rebuild_run(folder: Path, records: Sequence[Record]) -> Run:
    """Rebuilds a run from the records of its journal."""
    first_record = records[0]
    config = build_config(first_record["config"])
    run = Run(
        first_record["id"],
        first_record["name"],
        folder,
        config,
        resolve_objective(records, config.objective),
        journal.discard_record,
    )
    for record in records:
        if record["kind"] == "metrics":
            run.step = max(run.step, record["step"])
            run.log(record["values"], record["step"])
    run.epoch = sum(record["kind"] == "metrics" and "train/epoch_loss" in record["values"] for record in records)
    return run


def resolve_objective(records: Sequence[Record], configured: Objective) -> Objective:
    """Returns the objective of a run: `configured`, or the training loss if there is no validation data."""
    dataset_record = next((record for record in records if record["kind"] == "dataset"), None)
    return configured if dataset_record is None else configured.for_splits(dataset_record["samples"])
