"""Points of metrics on their way to MLflow: their names as it takes them, in batches."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from expfw_mlflow.records.rejected import refused, unless_refused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

PER_BATCH, LONGEST_NAME = 1000, 240


class Points:
    """Points of one run, collected to be logged together.

    Of several with the same name, step and millisecond, which are one to MLflow, the last one counts.
    """

    def __init__(self, client: MlflowClient, state: dict[str, Any]) -> None:
        self.client = client
        self.state = state
        self.waiting: dict[tuple[str, int, int], Metric] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Those of a record `metrics` or `system`."""
        from mlflow.entities import Metric

        time, step = round(record["time"] * 1000), record["step"]
        for name, value in record["values"].items():
            made = unique(self.state, name if record["kind"] == "metrics" else f"system/{name}")
            self.waiting[made, step, time] = Metric(made, value, time, step)

    def log(self) -> None:
        """Logs what waits, and keeps the last point of each metric in mind."""
        points = list(self.waiting.values())
        self.waiting = {}
        for start in range(0, len(points), PER_BATCH):
            self._log(points[start : start + PER_BATCH])
        last: dict[str, list[Any]] = self.state.setdefault("last", {})
        last.update({point.key: [point.value, point.timestamp, point.step] for point in points})

    def _log(self, part: Sequence[Metric]) -> None:
        """Where MLflow refuses some of the points, the others are logged all the same."""

        def send() -> None:
            self.client.log_batch(self.state["run_id"], metrics=part)

        if len(part) == 1:
            unless_refused(self.state, f"{part[0].key} at step {part[0].step}", send)
        elif refused(send) is not None:
            middle = len(part) // 2
            self._log(part[:middle])
            self._log(part[middle:])

    def at(self, step: int) -> list[Metric]:
        """The last points of those metrics that were logged last at this step."""
        from mlflow.entities import Metric

        return [Metric(name, *point) for name, point in self.state.get("last", {}).items() if point[-1] == step]


def allowed(name: str) -> str:
    """A metric's name as MLflow takes it: letters, digits and `_-. :/`, no odd path, 240 characters at most."""
    plain = re.sub(r"[^\w\-. :/]", "_", name)
    return posixpath.normpath("/" + plain).strip("/")[:LONGEST_NAME] or "_"


def unique(state: dict[str, Any], name: str) -> str:
    """The same, and never one name for two metrics of a run, whose names `state` remembers."""
    made = allowed(name)
    if made == name:
        return name
    known: dict[str, str] = state.setdefault("names", {})
    if name not in known:
        number = 2
        while made in known.values():
            made = f"{allowed(name)}_{number}"
            number += 1
        known[name] = made
    return known[name]
