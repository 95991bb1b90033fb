"""Points of metrics on their way to MLflow: their names as it takes them, in batches."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from expfw_mlflow.records.rejections import call_and_record_refusal, get_refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

POINTS_PER_BATCH, MAX_NAME_LENGTH = 1000, 240


class MetricPoints:
    """Points of one run, collected to be logged together.

    Of several with the same name, step and millisecond, which are one to MLflow, the last one counts.
    """

    def __init__(self, client: MlflowClient, state: dict[str, Any]) -> None:
        self.client = client
        self.state = state
        self.unlogged: dict[tuple[str, int, int], Metric] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Those of a record `metrics` or `system`."""
        from mlflow.entities import Metric

        time, step = round(record["time"] * 1000), record["step"]
        for name, value in record["values"].items():
            metric_name = make_unique_name(self.state, name if record["kind"] == "metrics" else f"system/{name}")
            self.unlogged[metric_name, step, time] = Metric(metric_name, value, time, step)

    def log(self) -> None:
        """Logs what waits, and keeps the last point of each metric in mind."""
        points = list(self.unlogged.values())
        self.unlogged = {}
        for start in range(0, len(points), POINTS_PER_BATCH):
            self._log_batch(points[start : start + POINTS_PER_BATCH])
        last_points: dict[str, list[Any]] = self.state.setdefault("last", {})
        last_points.update({point.key: [point.value, point.timestamp, point.step] for point in points})

    def _log_batch(self, batch: Sequence[Metric]) -> None:
        """Where MLflow refuses some of the points, the others are logged all the same."""

        def send() -> None:
            self.client.log_batch(self.state["run_id"], metrics=batch)

        if len(batch) == 1:
            call_and_record_refusal(self.state, f"{batch[0].key} at step {batch[0].step}", send)
        elif get_refusal(send) is not None:
            middle = len(batch) // 2
            self._log_batch(batch[:middle])
            self._log_batch(batch[middle:])

    def get_points_at(self, step: int) -> list[Metric]:
        """The last points of those metrics that were logged last at this step."""
        from mlflow.entities import Metric

        return [Metric(name, *point) for name, point in self.state.get("last", {}).items() if point[-1] == step]


def make_allowed_name(name: str) -> str:
    """A metric's name as MLflow takes it: letters, digits and `_-. :/`, no odd path, 240 characters at most."""
    replaced = re.sub(r"[^\w\-. :/]", "_", name)
    return posixpath.normpath("/" + replaced).strip("/")[:MAX_NAME_LENGTH] or "_"


def make_unique_name(state: dict[str, Any], name: str) -> str:
    """The same, and never one name for two metrics of a run, whose names `state` remembers."""
    unique_name = make_allowed_name(name)
    if unique_name == name:
        return name
    names: dict[str, str] = state.setdefault("names", {})
    if name not in names:
        number = 2
        while unique_name in names.values():
            unique_name = f"{make_allowed_name(name)}_{number}"
            number += 1
        names[name] = unique_name
    return names[name]
