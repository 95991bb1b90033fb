"""Delivers metric points to MLflow in batches, with valid names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from expfw_mlflow.records.delivery import call_and_record_rejection, get_rejection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

POINTS_PER_BATCH, MAX_NAME_LENGTH = 1000, 240


class MetricPoints:
    """Metric points of a run, collected for batches.

    MLflow stores one point for each name, step and millisecond; the last one is logged.
    """

    def __init__(self, client: MlflowClient, state: dict[str, Any]) -> None:
        self.client = client
        self.state = state
        self.unlogged: dict[tuple[str, int, int], Metric] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds the points of a record `metrics` or `system`."""
        from mlflow.entities import Metric

        time, step = round(record["time"] * 1000), record["step"]
        for name, value in record["values"].items():
            metric_name = make_unique_name(self.state, name if record["kind"] == "metrics" else f"system/{name}")
            self.unlogged[metric_name, step, time] = Metric(metric_name, value, time, step)

    def log(self) -> None:
        """Logs the collected points and saves the last point of each metric in the state."""
        points = list(self.unlogged.values())
        self.unlogged = {}
        for start in range(0, len(points), POINTS_PER_BATCH):
            self._log_batch(points[start : start + POINTS_PER_BATCH])
        last_points: dict[str, list[Any]] = self.state.setdefault("last", {})
        last_points.update({point.key: [point.value, point.timestamp, point.step] for point in points})

    def _log_batch(self, batch: Sequence[Metric]) -> None:
        """Logs a batch; if MLflow rejects some points, the others are still logged."""

        def send() -> None:
            self.client.log_batch(self.state["run_id"], metrics=batch)

        if len(batch) == 1:
            call_and_record_rejection(self.state, f"{batch[0].key} at step {batch[0].step}", send)
        elif get_rejection(send) is not None:
            middle = len(batch) // 2
            self._log_batch(batch[:middle])
            self._log_batch(batch[middle:])

    def get_points_at(self, step: int) -> list[Metric]:
        """Returns the last points of the metrics that end at this step."""
        from mlflow.entities import Metric

        return [Metric(name, *point) for name, point in self.state.get("last", {}).items() if point[-1] == step]


def make_allowed_name(name: str) -> str:
    """Returns a metric name that MLflow accepts: letters, digits, `_-. :/`, a normal path, up to 240 characters."""
    replaced = re.sub(r"[^\w\-. :/]", "_", name)
    return posixpath.normpath("/" + replaced).strip("/")[:MAX_NAME_LENGTH] or "_"


def make_unique_name(state: dict[str, Any], name: str) -> str:
    """Returns a name that MLflow accepts and that is unique in the run; `state` contains the changed names."""
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
