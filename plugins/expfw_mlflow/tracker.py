"""The MLflow tracker: journals become runs, sweeps become parents."""

from __future__ import annotations

import json
import os
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import expfw
from expfw_mlflow import colors
from expfw_mlflow.pages import Pages
from expfw_mlflow.user_interface import user_interface

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_PARAM, LONGEST_NAME = 6000, 240
PARAMS_PER_BATCH, METRICS_PER_BATCH = 100, 1000
_STATUS = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "PRUNED": "KILLED"}


_TAGS = {"user": "mlflow.user", "command": "mlflow.source.name", "git_commit": "mlflow.source.git.commit"}


class MLflow(expfw.Tracker):
    """Writes to an MLflow tracking server, or to SQLite in the runs folder, where `expfw ui` shows it."""

    preload: ClassVar = ("mlflow", "mlflow.pyfunc")

    @dataclass
    class Config:
        uri: str | None = expfw.option(
            None, help="tracking URI; by default MLFLOW_TRACKING_URI, else mlflow.db in runs_dir"
        )
        experiment: str = expfw.option("expfw", help="name of the MLflow experiment")
        log_model: bool = expfw.option(True, help="whether the trained model is logged")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.client: MlflowClient
        self.experiment_id = ""

    def store(self, runs_dir: Path) -> str:
        """The tracking URI."""
        given: str | None = self.config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{runs_dir.absolute() / 'mlflow.db'}"

    def open(self, runs_dir: Path) -> None:
        # The shipper tries again by itself; MLflow's own patience with a server that is down is some minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        import mlflow
        from filelock import FileLock

        uri = self.store(runs_dir)
        with FileLock(runs_dir / "mlflow.lock"):  # tables are made once, whoever comes first
            mlflow.set_tracking_uri(uri)
            self.client = mlflow.MlflowClient(uri)
            found = self.client.get_experiment_by_name(self.config.experiment)
            if found is None:
                artifacts = (runs_dir / "mlartifacts").absolute().as_uri() if uri.startswith("sqlite:") else None
                self.experiment_id = self.client.create_experiment(self.config.experiment, artifact_location=artifacts)
                self.client.set_experiment_tag(self.experiment_id, "mlflow.experimentKind", "custom_model_development")
            else:
                if found.lifecycle_stage != "active":
                    raise RuntimeError(
                        f"the MLflow experiment {self.config.experiment!r} was deleted; restore it there, "
                        "or use another, with tracker.mlflow.experiment=NAME"
                    )
                self.experiment_id = found.experiment_id
        mlflow.set_experiment(experiment_id=self.experiment_id)

    def ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        points: dict[tuple[str, int, int], Metric] = {}  # of the same name, step and millisecond, the last one counts
        for record in records:
            if record["kind"] == "metrics":
                time, step = round(record["time"] * 1000), record["step"]
                for name, value in record["values"].items():
                    made = _name(state, name)
                    points[made, step, time] = Metric(made, value, time, step)
            elif (handle := getattr(self, f"_{record['kind']}", None)) is not None:
                self._log(state, list(points.values()))
                points = {}
                handle(folder, state, record)
        self._log(state, list(points.values()))

    def _log(self, state: dict[str, Any], points: list[Any]) -> None:
        for part in _parts(points, METRICS_PER_BATCH):
            self.client.log_batch(state["run_id"], metrics=part)

    def _run_started(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        tags = {
            "expfw.run_id": record["id"],
            "expfw.folder": str(folder),
            "expfw.fingerprint": record["fingerprint"],
            **{_TAGS.get(name, f"expfw.{name}"): value for name, value in record["environment"].items()},
            **record["tags"],
        }
        if record["sweep_id"] is not None:
            tags["expfw.sweep_id"] = record["sweep_id"]
            tags["expfw.trial"] = str(record["trial"])
            tags["mlflow.runColor"] = colors.of_trial(record["trial"])
            tags["mlflow.parentRunId"] = self._parent(Path(record["sweep_folder"]), record["sweep_id"])
        self._create(state, record, tags)
        # Not the name: MLflow has it, and as a parameter it would be an axis of every comparison.
        self._params(state, {name: value for name, value in record["params"].items() if name != "name"})

    def _sweep_started(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        state["objective"] = record["objective"]
        tags = {"expfw.sweep_id": record["id"], "expfw.sweep": "parent", "expfw.folder": str(folder)}
        tags[_TAGS["command"]] = shlex.join(["expfw", "sweep", *record["overrides"]])
        self._create(state, record, tags)
        self._params(state, {"overrides": " ".join(record["overrides"])})

    def _create(self, state: dict[str, Any], record: Mapping[str, Any], tags: dict[str, str]) -> None:
        if "run_id" not in state:
            start = round(record["time"] * 1000)
            run = self.client.create_run(self.experiment_id, start_time=start, tags=tags, run_name=record["name"])
            state["run_id"] = run.info.run_id

    def _run_resumed(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        """The same run goes on. MLflow's params never change: new values of options are in a tag."""
        run_id = state["run_id"]
        self._sweep_resumed(folder, state, record)
        state["resumed"] = state.get("resumed", 0) + 1
        how = " ".join(record["overrides"]) or "as it was"
        self.client.set_tag(run_id, f"expfw.resumed.{state['resumed']}", f"from step {record['step']}: {how}")
        if "expfw.error" in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, "expfw.error")

    def _sweep_resumed(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        self.client.update_run(state["run_id"], status="RUNNING")
        self.client.set_tag(state["run_id"], "expfw.status", "RUNNING")

    def _params(self, state: dict[str, Any], values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)[:LONGEST_PARAM]) for name, value in values.items()]
        for part in _parts(params, PARAMS_PER_BATCH):
            self.client.log_batch(state["run_id"], params=part)

    def _parent(self, sweep_folder: Path, sweep_id: str) -> str:
        """The parent's run, which the sweep's own journal made first."""
        kept = sweep_folder / "tracking" / f"{self.name}.json"
        if kept.exists():
            return str(json.loads(kept.read_text())["state"]["run_id"])
        wanted = f"tags.`expfw.sweep_id` = '{sweep_id}' and tags.`expfw.sweep` = 'parent'"
        found = self.client.search_runs([self.experiment_id], filter_string=wanted, max_results=1)
        if not found:
            raise LookupError(f"the parent run of sweep {sweep_id} is not there yet")
        return str(found[0].info.run_id)

    def _artifact(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        path = folder / record["path"]
        if path.is_dir():
            self.client.log_artifacts(state["run_id"], str(path), artifact_path=path.name)
        else:
            self.client.log_artifact(state["run_id"], str(path))

    def _note(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        text = record["text"]
        if (objective := state.get("objective")) is not None:
            page = Pages("", self.experiment_id).curves(state["run_id"], objective["metric"], objective["mode"])
            text = f"[All trials and their curves]({page}). {text}"
        self.client.set_tag(state["run_id"], "mlflow.note.content", text)

    def _facts(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        for name, value in record["values"].items():
            self.client.set_tag(state["run_id"], f"expfw.{name}", str(value))

    def _model(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        if not self.config.log_model or state.get("model_of_step") == record["step"]:
            return
        import mlflow
        import numpy as np
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        def declared(tensors: Mapping[str, Any]) -> Schema:
            named = {None: tensors} if isinstance(tensors.get("shape"), list) else tensors
            return Schema([TensorSpec(np.dtype(t["dtype"]), t["shape"], name) for name, t in named.items()])

        Model.log(
            artifact_path=None,
            name="model",
            flavor=mlflow.pyfunc,
            run_id=state["run_id"],
            loader_module="expfw_mlflow.loader",
            data_path=str(folder / record["path"]),
            signature=ModelSignature(declared(record["input"]), declared(record["output"])),
            pip_requirements=record["requirements"],
            step=record["step"],
        )
        state["model_of_step"] = record["step"]

    def _run_ended(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        self.client.set_tag(state["run_id"], "expfw.status", record["status"])
        if record.get("error"):
            self.client.set_tag(state["run_id"], "expfw.error", record["error"])
        self.client.set_terminated(state["run_id"], _STATUS[record["status"]], round(record["time"] * 1000))

    _sweep_ended = _run_ended

    def _interrupted(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        """MLflow would show the run as running for ever."""
        self.client.set_tag(state["run_id"], "expfw.status", "INTERRUPTED")
        self.client.set_terminated(state["run_id"], "KILLED", round(record["time"] * 1000))

    @expfw.hookimpl
    def expfw_ui(self, runs_dir: Path, host: str, port: int, show: expfw.Shown | None) -> expfw.UserInterface:
        return user_interface(self, runs_dir, host, port, show)


def allowed(name: str) -> str:
    """A metric's name as MLflow takes it: letters, digits and `_-. :/`, no odd path, 240 characters at most."""
    plain = re.sub(r"[^\w\-. :/]", "_", name)
    return posixpath.normpath("/" + plain).strip("/")[:LONGEST_NAME] or "_"


def _name(state: dict[str, Any], name: str) -> str:
    """The same, and never one name for two metrics of a run."""
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


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
