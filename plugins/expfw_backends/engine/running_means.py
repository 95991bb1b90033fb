"""Running means over the steps since they were last taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from expfw_backends.engine.loop import StepValues


class RunningMeans:
    """Adds up, in float64, what steps came to; metrics that are no means keep their latest value.

    One step after the other, so that the sums are the same to the bit wherever the calls of the engine were cut.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.totals: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.last_values: dict[str, float] = {}

    def add(self, values: StepValues) -> None:
        """Some more steps."""
        for name, column in values.totals.items():
            self.totals[name] = _add_in_order(self.totals.get(name, 0.0), column)
            self.counts[name] = _add_in_order(self.counts.get(name, 0.0), values.counts[name])
        self.last_values.update({name: float(column[-1]) for name, column in values.last_values.items() if len(column)})

    def take(self, prefix: str) -> dict[str, float]:
        """The means so far, under `prefix`; then begins anew."""
        means = {prefix + name: total / self.counts[name] for name, total in self.totals.items() if self.counts[name]}
        means.update({prefix + name: value for name, value in self.last_values.items()})
        self._clear()
        return means

    def state(self) -> dict[str, Any]:
        """What was added so far, as JSON values."""
        return {"totals": dict(self.totals), "counts": dict(self.counts), "last": dict(self.last_values)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave."""
        self.totals, self.counts, self.last_values = (dict(state[name]) for name in ("totals", "counts", "last"))


def _add_in_order(total: float, column: np.ndarray) -> float:
    return float(np.cumsum(np.concatenate([[total], column]))[-1])  # NumPy's sum adds in pairs, cumsum in a row
