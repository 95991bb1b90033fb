"""A trained model in MLflow: logged with its signature, registered under a name."""

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

NAME = "model"


def log_model(
    client: MlflowClient,
    experiment_id: str,
    state: dict[str, Any],
    folder: Path,
    record: Mapping[str, Any],
    metrics: Sequence[Metric],
) -> None:
    """Logs the saved model in `folder` to the run of `state`, once for each step that it was saved at.

    TensorFlow is not imported. MLflow's own `Model.log` would be: it tries the input example. Each part can be done a
    second time, where a server went away in the middle.

    Args:
        metrics: of the run, at the step of the model; shown beside the model.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    step = record["step"]
    logged: dict[str, str] = state.setdefault("models", {})
    if f"{step}" in logged:
        return
    run_id = state["run_id"]
    model_id = _found(client, experiment_id, run_id, step)
    if model_id is None:
        model_id = _made(client, experiment_id, run_id, step)
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
    elif not _is_output(client, run_id, model_id):
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / NAME
        _write(path, model_id, run_id, folder / record["path"], record)
        client.log_model_artifacts(model_id, str(path))
    theirs = [Metric(m.key, m.value, m.timestamp, m.step, model_id=model_id, run_id=run_id) for m in metrics]
    if theirs:
        client.log_batch(run_id, metrics=theirs)
    client.finalize_logged_model(model_id, "READY")
    logged[f"{step}"] = model_id


def _found(client: MlflowClient, experiment_id: str, run_id: str, step: int) -> str | None:
    """The id of the logged model that is there already, where we were interrupted behind this."""
    found = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    return next((str(model.model_id) for model in found if model.tags.get("expfw.step") == str(step)), None)


def _made(client: MlflowClient, experiment_id: str, run_id: str, step: int) -> str:
    params = client.get_run(run_id).data.params
    made = client.create_logged_model(
        experiment_id, NAME, run_id, tags={"expfw.step": str(step)}, params=params, model_type="expfw"
    )
    return str(made.model_id)


def _is_output(client: MlflowClient, run_id: str, model_id: str) -> bool:
    outputs = client.get_run(run_id).outputs
    return outputs is not None and model_id in {output.model_id for output in outputs.model_outputs}


def _write(path: Path, model_id: str, run_id: str, saved: Path, record: Mapping[str, Any]) -> None:
    import mlflow
    from mlflow.models import Model, ModelSignature

    mlflow.pyfunc.save_model(
        path=str(path),
        mlflow_model=Model(artifact_path=NAME, run_id=run_id, model_uuid=model_id, model_id=model_id),
        loader_module="expfw_mlflow.records.model_loader",
        data_path=str(saved),
        signature=ModelSignature(_schema(record["input"]), _schema(record["output"])),
        input_example=_example(saved, record["input"]),
        pip_requirements=record["requirements"],
    )


def _schema(tensors: Mapping[str, Any]) -> Schema:
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(one["dtype"]), one["shape"], name) for name, one in _named(tensors).items()])


def _example(saved: Path, tensors: Mapping[str, Any]) -> Any:
    """The raw samples beside the saved model."""
    import numpy as np

    found = json.loads((saved / "input_example.json").read_text())
    if None in _named(tensors):
        return np.asarray(found, tensors["dtype"])
    return {name: np.asarray(values, tensors[name]["dtype"]) for name, values in found.items()}


def _named(tensors: Mapping[str, Any]) -> Mapping[str | None, Any]:
    """The parts of something that may have several, by name; a single one has none."""
    return {None: tensors} if isinstance(tensors.get("shape"), list) else {name: tensors[name] for name in tensors}


def register(client: MlflowClient, run_id: str, model_id: str, name: str, alias: str) -> str:
    """Makes the logged model a version of the registered model `name`, and lets `alias` point to it.

    Returns:
        The version; of a model that was registered before, the one that it has.
    """
    import mlflow

    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    version = next((one.version for one in found if one.source in (f"models:/{model_id}", model_id)), None)
    if version is None:
        made = mlflow.register_model(f"models:/{model_id}", name, await_registration_for=0)
        version = made.version
    client.set_registered_model_alias(name, alias, str(version))
    return str(version)
