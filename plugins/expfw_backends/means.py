"""Running means over the steps since they were last taken."""

from __future__ import annotations

from expfw_backends.loop import Values


class Means:
    """Adds up, in float64, what steps came to; metrics that are no means keep their latest value."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.totals: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def add(self, values: Values) -> None:
        """Some more steps."""
        for name, column in values.totals.items():
            self.totals[name] = self.totals.get(name, 0.0) + float(column.sum())
            self.counts[name] = self.counts.get(name, 0.0) + float(values.counts[name].sum())
        self.last.update({name: float(column[-1]) for name, column in values.last.items() if len(column)})

    def take(self, prefix: str) -> dict[str, float]:
        """The means so far, under `prefix`; then begins anew."""
        means = {prefix + name: total / self.counts[name] for name, total in self.totals.items() if self.counts[name]}
        means.update({prefix + name: value for name, value in self.last.items()})
        self._clear()
        return means
