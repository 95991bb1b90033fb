"""Runs of a sweep in MLflow: options, metrics and missing parts of each trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PAGE = 1000


@dataclass(frozen=True)
class StoredRun:
    """One run in an MLflow store.

    Attributes:
        options: values of the swept parameters, as text, in the order of the requested parameters.
        metrics: last value of each metric.
        missing_parts: descriptions of missing parts; empty if the run is complete.
    """

    options: tuple[str, ...]
    metrics: Mapping[str, float]
    missing_parts: tuple[str, ...]


def read_stored_runs(
    uri: str, experiment: str, params: tuple[str, ...], metric: str, models: bool = True
) -> list[StoredRun]:
    """Returns the runs of an experiment, without the parent runs of sweeps.

    Args:
        uri: tracking URI of the store.
        experiment: name of the experiment.
        params: parameters that every run must have.
        metric: metric that every run must have.
        models: whether every run must have a model, as an MLflow model or as artifacts.
    """
    import mlflow

    mlflow.set_tracking_uri(uri)  # MLflow reads model artifacts from this store
    client = mlflow.MlflowClient(uri)
    mlflow_experiment = client.get_experiment_by_name(experiment)
    if mlflow_experiment is None:
        return []
    return [
        _read_stored_run(client, run, params, metric, models)
        for run in _list_runs(client, mlflow_experiment.experiment_id)
    ]


def _list_runs(client: Any, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token)
        yield from (run for run in page if "expfw.sweep" not in run.data.tags)
        if not (token := page.token):
            return


def _read_stored_run(client: Any, run: Any, params: tuple[str, ...], metric: str, models: bool) -> StoredRun:
    missing_parts = []
    if run.info.status != "FINISHED":
        missing_parts.append(f"its status is {run.info.status}")
    missing_parts += [f"no parameter {name}" for name in params if name not in run.data.params]
    if metric not in run.data.metrics:
        missing_parts.append(f"no metric {metric}")
    if models and not _has_model(client, run):
        missing_parts.append("no model")
    options = tuple(run.data.params.get(name, "") for name in params)
    return StoredRun(options, dict(run.data.metrics), tuple(missing_parts))


def _has_model(client: Any, run: Any) -> bool:
    """Returns whether a run has a model: a logged model, or Lightning's checkpoint `epoch=...` among the artifacts."""
    outputs = run.outputs.model_outputs if run.outputs else []
    if any(client.list_logged_model_artifacts(output.model_id) for output in outputs):
        return True
    return any(file.path.startswith(("model", "epoch=")) for file in client.list_artifacts(run.info.run_id))


def make_sqlite_uri(file: Path) -> str:
    """Returns the tracking URI of a store in one file."""
    return f"sqlite:///{file}"
