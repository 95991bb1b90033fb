"""Trained models in MLflow: logged with a signature, registered under a name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw import read_unpacked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.types import Schema

_ARTIFACT_NAME, _MAX_EXAMPLE_BYTES = "model", 64 << 20


def log_model(
    client: MlflowClient, experiment_id: str, state: dict[str, Any], folder: Path, record: Mapping[str, Any]
) -> None:
    """Logs the saved model of a record `model` to the run of `state`, once for each step at which it was saved.

    MLflow shows the metrics of this step with the model. Does not import TensorFlow; MLflow's `Model.log` would,
    because it runs the input example. Each part can be repeated if the tracking server fails in between.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    step = str(record["step"])
    logged_models: dict[str, str] = state.setdefault("models", {})
    if step in logged_models:
        return
    run_id = state["run_id"]
    run = client.get_run(run_id)
    # an interrupted delivery may have created it
    created = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    logged_model = next((model for model in created if model.tags.get("expfw.step") == step), None)
    if logged_model is None:
        tags, params = {"expfw.step": step}, run.data.params
        logged_model = client.create_logged_model(
            experiment_id, _ARTIFACT_NAME, run_id, tags=tags, params=params, model_type="expfw"
        )
    model_id = str(logged_model.model_id)
    if run.outputs is None or model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, record["step"])])
    with tempfile.TemporaryDirectory() as temporary_folder:
        path = Path(temporary_folder) / _ARTIFACT_NAME
        _write_model(path, model_id, run_id, folder / record["path"], record)
        client.log_model_artifacts(model_id, str(path))
    metrics = [
        Metric(name, *point, model_id=model_id, run_id=run_id)
        for name, last_point in state.get("last", {}).items()
        for point in _find_points(client, run_id, name, last_point, record["step"])
    ]
    client.log_batch(run_id, metrics=metrics)
    client.finalize_logged_model(model_id, "READY")
    logged_models[step] = model_id


def _find_points(
    client: MlflowClient, run_id: str, name: str, last_point: Sequence[Any], step: int
) -> list[Sequence[Any]]:
    """Returns value, time and step of the points of a metric at a step; `last_point` is its last one."""
    if last_point[-1] == step:
        return [last_point]
    if not name.startswith(("val/", "train/epoch_")):
        return []
    history = client.get_metric_history(run_id, name)
    return [(point.value, point.timestamp, point.step) for point in history if point.step == step]


def _write_model(path: Path, model_id: str, run_id: str, saved_folder: Path, record: Mapping[str, Any]) -> None:
    import mlflow
    import numpy as np
    from mlflow.models import Model, ModelSignature

    example = json.loads(read_unpacked(saved_folder / "input_example.json", _MAX_EXAMPLE_BYTES))
    arrays = {
        name: np.asarray(example if name is None else example[name], tensor["dtype"])
        for name, tensor in _name_parts(record["input"]).items()
    }
    mlflow.pyfunc.save_model(
        path=str(path),
        mlflow_model=Model(artifact_path=_ARTIFACT_NAME, run_id=run_id, model_uuid=model_id, model_id=model_id),
        loader_module="expfw_mlflow.records.model_loader",
        data_path=str(saved_folder),
        signature=ModelSignature(_make_schema(record["input"]), _make_schema(record["output"])),
        input_example=arrays.get(None, arrays),
        pip_requirements=record["requirements"],
    )


def _make_schema(tensors: Mapping[str, Any]) -> Schema:
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    return Schema(
        [TensorSpec(np.dtype(tensor["dtype"]), tensor["shape"], name) for name, tensor in _name_parts(tensors).items()]
    )


def _name_parts(tensors: Mapping[str, Any]) -> Mapping[str | None, Any]:
    """Returns the tensors by name; a single tensor has the name None."""
    return {None: tensors} if isinstance(tensors.get("shape"), list) else {name: tensors[name] for name in tensors}


def register_model(client: MlflowClient, state: Mapping[str, Any], name: str | None, alias: str) -> None:
    """Registers the last logged model of a run as a version of `name`, if it is not None, and points `alias` to it."""
    import mlflow

    if name is None or not state.get("models"):
        return
    *_, model_id = state["models"].values()
    sources = (f"models:/{model_id}", model_id)
    versions = [  # without the name in the filter: it may contain quotation marks
        str(version.version)
        for version in client.search_model_versions(f"run_id = '{state['run_id']}'")
        if version.name == name and version.source in sources
    ] or [str(mlflow.register_model(sources[0], name, await_registration_for=0).version)]
    client.set_registered_model_alias(name, alias, versions[0])
