"""How far a trial is that runs in another process, wherever that is: its journal tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expfw.api.settings import Objective
from expfw.errors import JournalError
from expfw.system.formatting import number
from expfw.tracking import journal

_MOST_BYTES = 256 << 10
"""Of what was written since the last look; of more only the end is read, which tells as much."""


class TrialReading:
    """Reads, at each look, what is new in a journal.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / journal.NAME
        self._offset = 0
        self._step = 0
        self._steps_per_epoch = 0
        self._total: int | None = None
        self._train: Mapping[str, Any] = {}
        self._objective: Objective | None = None
        self._value: float | None = None

    def look(self) -> None:
        """Reads on; what is not there, or not whole, changes nothing."""
        try:
            size = self._path.stat().st_size
            if self._offset and size - self._offset > _MOST_BYTES:
                self._offset = journal.line_start(self._path, size - _MOST_BYTES)
            records, self._offset = journal.read(self._path, self._offset, _MOST_BYTES)
        except (JournalError, OSError):
            return
        for record in records:
            self._take(record)

    def _take(self, record: journal.Record) -> None:
        kind = record["kind"]
        if kind in ("run_started", "run_resumed"):
            self._train = record["config"]["train"]
            self._objective = Objective(**record["config"]["objective"])
        elif kind == "dataset" and self._train and self._objective is not None:
            self._steps_per_epoch = max(1, -(-record["samples"]["train"] // self._train["batch_size"]))
            self._total = self._train["steps"] or self._train["epochs"] * self._steps_per_epoch
            self._objective = self._objective.on(record["samples"])
        elif kind == "metrics" and self._objective is not None:
            self._step = max(self._step, record["step"])
            self._value = record["values"].get(self._objective.metric, self._value)

    @property
    def fraction(self) -> float | None:
        """How much of the training is done; None: it has not begun."""
        return min(1.0, self._step / self._total) if self._total and self._step else None

    @property
    def place(self) -> str:
        """Epoch, or step, of how many."""
        if not self._total:
            return "starting"
        if not self._step:
            return "first steps"
        if self._steps_per_epoch == 1 or self._total <= self._steps_per_epoch:
            return f"step {self._step}/{self._total}"
        epochs = -(-self._total // self._steps_per_epoch)
        return f"epoch {min(epochs, self._step // self._steps_per_epoch + 1)}/{epochs}"

    @property
    def value(self) -> str:
        """The metric that counts, as it was measured last."""
        if self._value is None or self._objective is None:
            return ""
        return f"{self._objective.metric} {number(self._value)}"
