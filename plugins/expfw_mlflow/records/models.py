"""Trained models in MLflow: logged with a signature, registered under a name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.types import Schema

ARTIFACT_NAME = "model"


def log_model(
    client: MlflowClient,
    experiment_id: str,
    state: dict[str, Any],
    folder: Path,
    record: Mapping[str, Any],
    metrics: Sequence[Metric],
) -> None:
    """Logs the saved model in `folder` to the run of `state`, once for each step at which it was saved.

    Does not import TensorFlow; MLflow's `Model.log` would, because it runs the input example. Each part can be repeated
    if the tracking server fails in between.

    Args:
        client: connected to the tracking server.
        experiment_id: MLflow's ID of the experiment.
        state: the tracker's state of the run.
        folder: run folder.
        record: the record `model` of the journal.
        metrics: metrics of the run at the step of the model, which MLflow shows with the model.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    step = record["step"]
    logged_models: dict[str, str] = state.setdefault("models", {})
    if f"{step}" in logged_models:
        return
    run_id = state["run_id"]
    run = client.get_run(run_id)
    # an interrupted delivery may have created it
    created = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    logged_model = next((model for model in created if model.tags.get("expfw.step") == str(step)), None)
    if logged_model is None:
        tags, params = {"expfw.step": str(step)}, run.data.params
        logged_model = client.create_logged_model(
            experiment_id, ARTIFACT_NAME, run_id, tags=tags, params=params, model_type="expfw"
        )
    model_id = str(logged_model.model_id)
    if run.outputs is None or model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
    with tempfile.TemporaryDirectory() as temporary_folder:
        path = Path(temporary_folder) / ARTIFACT_NAME
        _write_model(path, model_id, run_id, folder / record["path"], record)
        client.log_model_artifacts(model_id, str(path))
    model_metrics = [Metric(m.key, m.value, m.timestamp, m.step, model_id=model_id, run_id=run_id) for m in metrics]
    if model_metrics:
        client.log_batch(run_id, metrics=model_metrics)
    client.finalize_logged_model(model_id, "READY")
    logged_models[f"{step}"] = model_id


def _write_model(path: Path, model_id: str, run_id: str, saved_folder: Path, record: Mapping[str, Any]) -> None:
    import mlflow
    from mlflow.models import Model, ModelSignature

    mlflow.pyfunc.save_model(
        path=str(path),
        mlflow_model=Model(artifact_path=ARTIFACT_NAME, run_id=run_id, model_uuid=model_id, model_id=model_id),
        loader_module="expfw_mlflow.records.model_loader",
        data_path=str(saved_folder),
        signature=ModelSignature(_make_schema(record["input"]), _make_schema(record["output"])),
        input_example=_read_input_example(saved_folder, record["input"]),
        pip_requirements=record["requirements"],
    )


def _make_schema(tensors: Mapping[str, Any]) -> Schema:
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    return Schema(
        [TensorSpec(np.dtype(tensor["dtype"]), tensor["shape"], name) for name, tensor in _name_parts(tensors).items()]
    )


def _read_input_example(saved_folder: Path, tensors: Mapping[str, Any]) -> Any:
    """Returns the raw samples that are saved next to the model."""
    import numpy as np

    example = json.loads((saved_folder / "input_example.json").read_text())
    if None in _name_parts(tensors):
        return np.asarray(example, tensors["dtype"])
    return {name: np.asarray(values, tensors[name]["dtype"]) for name, values in example.items()}


def _name_parts(tensors: Mapping[str, Any]) -> Mapping[str | None, Any]:
    """Returns the tensors by name; a single tensor has the name None."""
    return {None: tensors} if isinstance(tensors.get("shape"), list) else {name: tensors[name] for name in tensors}


def register_model(client: MlflowClient, run_id: str, model_id: str, name: str, alias: str) -> str:
    """Registers the logged model as a version of the registered model `name`, and points `alias` to it.

    Returns:
        The version; the existing one if the model is already registered.
    """
    import mlflow

    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    version = next(
        (candidate.version for candidate in versions if candidate.source in (f"models:/{model_id}", model_id)), None
    )
    if version is None:
        registered_version = mlflow.register_model(f"models:/{model_id}", name, await_registration_for=0)
        version = registered_version.version
    client.set_registered_model_alias(name, alias, str(version))
    return str(version)
