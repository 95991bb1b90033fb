"""Progress of a trial in another process or on another machine, read from its journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expfw.api.run_config import Objective
from expfw.errors import JournalError
from expfw.system.formatting import format_number
from expfw.tracking import journal

_MAX_BYTES = 256 << 10
"""Maximum bytes to read at each update; of more new records only the last ones are read."""


class TrialProgress:
    """Progress of a run, updated from the new records of its journal.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / journal.NAME
        self._offset = 0
        self._step = 0
        self._steps_per_epoch = 0
        self._total_steps: int | None = None
        self._train_config: Mapping[str, Any] = {}
        self._objective: Objective | None = None
        self._objective_value: float | None = None

    def read_new_records(self) -> None:
        """Reads new records; ignores a missing journal and incomplete records."""
        try:
            size = self._path.stat().st_size
            if self._offset and size - self._offset > _MAX_BYTES:
                self._offset = journal.find_line_start(self._path, size - _MAX_BYTES)
            records, self._offset = journal.read_records(self._path, self._offset, _MAX_BYTES)
        except (JournalError, OSError):
            return
        for record in records:
            self._process_record(record)

    def _process_record(self, record: journal.Record) -> None:
        kind = record["kind"]
        if kind in ("run_started", "run_resumed"):
            self._train_config = record["config"]["train"]
            self._objective = Objective(**record["config"]["objective"])
        elif kind == "dataset" and self._train_config and self._objective is not None:
            self._steps_per_epoch = max(1, -(-record["samples"]["train"] // self._train_config["batch_size"]))
            self._total_steps = self._train_config["steps"] or self._train_config["epochs"] * self._steps_per_epoch
            self._objective = self._objective.for_splits(record["samples"])
        elif kind == "metrics" and self._objective is not None:
            self._step = max(self._step, record["step"])
            self._objective_value = record["values"].get(self._objective.metric, self._objective_value)

    @property
    def fraction(self) -> float | None:
        """Completed fraction of the training; None before the first step."""
        return min(1.0, self._step / self._total_steps) if self._total_steps and self._step else None

    @property
    def position(self) -> str:
        """Current epoch or step, with the total."""
        if not self._total_steps:
            return "starting"
        if not self._step:
            return "first steps"
        if self._steps_per_epoch == 1 or self._total_steps <= self._steps_per_epoch:
            return f"step {self._step}/{self._total_steps}"
        epochs = -(-self._total_steps // self._steps_per_epoch)
        return f"epoch {min(epochs, self._step // self._steps_per_epoch + 1)}/{epochs}"

    @property
    def metric_text(self) -> str:
        """Name and latest value of the objective metric."""
        if self._objective_value is None or self._objective is None:
            return ""
        return f"{self._objective.metric} {format_number(self._objective_value)}"
