"""The MLflow tracker: delivers journals of runs as MLflow runs, and journals of sweeps as parent runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import expfw
from expfw_mlflow.records.delivery import call_and_record_rejection, read_delivery_state
from expfw_mlflow.records.metrics import MetricPoints, make_allowed_name
from expfw_mlflow.records.tags import make_parent_filter, make_run_tags, make_sweep_tags
from expfw_mlflow.store.deletion import delete_from_store
from expfw_mlflow.store.health_check import check_mlflow
from expfw_mlflow.store.relocation import ARTIFACTS_FOLDER, correct_addresses
from expfw_mlflow.store.schema_setup import get_sqlite_file, make_tables
from expfw_mlflow.store.uri import check_address, limit_retries, translate_store_errors
from expfw_mlflow.ui.open import OpenStore, make_user_interface, translate_server_errors
from expfw_mlflow.ui.urls import PageUrls, hide_url_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Set before MLflow is imported, which reads it then: no usage data is sent.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
MAX_PARAM_LENGTH, MAX_NAME_LENGTH = 6000, 250
PARAMS_PER_BATCH = 100
_MLFLOW_STATUS = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "PRUNED": "KILLED"}


class MLflow(expfw.Tracker):
    """Writes to an MLflow tracking server, or to SQLite in the runs folder; `expfw ui` shows both."""

    preload = ("mlflow", "mlflow.pyfunc")

    @dataclass
    class Config:
        uri: str | None = expfw.option(
            None, help="tracking URI; by default MLFLOW_TRACKING_URI, otherwise mlflow.db in runs_dir"
        )
        experiment: str = expfw.option("expfw", help="name of the MLflow experiment")
        log_model: bool = expfw.option(True, help="log the trained model")
        register: str | None = expfw.option(
            None, help="name under which the model of a run, or of the best trial of a sweep, is registered"
        )
        alias: str = expfw.option("best", help="alias of the version that was registered last")

        def __post_init__(self) -> None:
            if self.register is not None and not re.fullmatch(r"[^/:]+", self.register):
                raise ValueError(f"register is {self.register!r}; expected a name without / and :")
            if not re.fullmatch(r"(?!latest$|v\d+$)[\w-]+", self.alias):
                raise ValueError(
                    f"alias is {self.alias!r}; expected letters, digits, _ and -, but not latest, v1, v2, ..."
                )

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.client: MlflowClient
        self.experiment_id = ""
        check_address(self.config.uri or os.environ.get("MLFLOW_TRACKING_URI"))

    def get_store_uri(self, runs_dir: Path) -> str:
        """Returns the tracking URI."""
        configured_uri: str | None = self.config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        return configured_uri or f"sqlite:///{runs_dir.absolute() / 'mlflow.db'}"

    def _find_own_database(self, runs_dir: Path) -> Path | None:
        """Returns mlflow.db of the runs folder if it exists and this tracker writes to it; otherwise None."""
        database = runs_dir.absolute() / "mlflow.db"
        return database if get_sqlite_file(self.get_store_uri(runs_dir)) == database and database.exists() else None

    def destination(self, runs_dir: Path) -> str:
        return f"{hide_url_credentials(self.get_store_uri(runs_dir))} {self.config.experiment}"

    def open(self, runs_dir: Path) -> None:
        limit_retries()
        import mlflow
        from filelock import FileLock

        uri = self.get_store_uri(runs_dir)
        with translate_store_errors(uri), FileLock(runs_dir / "mlflow.lock"):  # one process creates the tables
            make_tables(uri)
            mlflow.set_tracking_uri(uri)
            self.client = mlflow.MlflowClient(uri)
            experiment = self.client.get_experiment_by_name(self.config.experiment)
            if experiment is None:
                artifact_uri = (runs_dir / ARTIFACTS_FOLDER).absolute().as_uri() if uri.startswith("sqlite:") else None
                self.experiment_id = self.client.create_experiment(
                    self.config.experiment, artifact_location=artifact_uri
                )
                self.client.set_experiment_tag(self.experiment_id, "mlflow.experimentKind", "custom_model_development")
            else:
                if (database := self._find_own_database(runs_dir)) is not None:
                    correct_addresses(database)
                if experiment.lifecycle_stage != "active":
                    raise RuntimeError(
                        f"the MLflow experiment {self.config.experiment!r} was deleted; restore it in MLflow, "
                        "or choose another: tracker.mlflow.experiment=NAME"
                    )
                self.experiment_id = experiment.experiment_id
        mlflow.set_experiment(experiment_id=self.experiment_id)

    def ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            with translate_store_errors(self.client.tracking_uri):
                self._ship_records(folder, state, records)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise LookupError(
                    f"the run no longer exists in MLflow ({error.message}); deliver it again from the beginning with: "
                    "expfw runs sync --all"
                ) from error
            raise

    def _ship_records(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Logs metrics in batches and calls the method `_KIND` for any other record; skips kinds without a method."""
        points = MetricPoints(self.client, state)
        for record in records:
            kind = record["kind"]
            if kind in ("metrics", "system"):
                points.add(record)
            elif (handler := getattr(self, f"_{kind}", None)) is not None:
                points.log()
                if "run_id" in state:
                    call_and_record_rejection(state, kind, partial(handler, folder, state, record))
                else:
                    handler(folder, state, record)  # no later record can be delivered without the run
        points.log()

    def _run_started(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        tags = make_run_tags(folder, record)
        if record["sweep_id"] is not None:
            tags["expfw.sweep_id"] = record["sweep_id"]
            tags["expfw.trial"] = str(record["trial"])
            state["trial"] = record["trial"]
            tags["mlflow.parentRunId"] = self._find_parent_run_id(Path(record["sweep_folder"]), record["sweep_id"])
        self._create_run(state, record, tags, f"tags.`expfw.run_id` = '{record['id']}'")
        # Without the name: MLflow stores it already, and as a parameter it would be an axis of every comparison.
        self._log_params(state, {name: value for name, value in record["params"].items() if name != "name"})

    def _sweep_started(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        state["objective"] = record["objective"]
        self._create_run(state, record, make_sweep_tags(folder, record), make_parent_filter(record["id"]))
        self._log_params(state, {"overrides": " ".join(record["overrides"])})

    def _create_run(
        self, state: dict[str, Any], record: Mapping[str, Any], tags: dict[str, str], search_filter: str
    ) -> None:
        """Creates the run, unless `search_filter` finds it: a killed process created it and did not save its ID."""
        if "run_id" not in state and (run_id := self._find_run_id(search_filter)) is not None:
            state["run_id"] = run_id
        if "run_id" not in state:
            start = round(record["time"] * 1000)
            run = self.client.create_run(
                self.experiment_id, start_time=start, tags=tags, run_name=record["name"][:MAX_NAME_LENGTH]
            )
            state["run_id"] = run.info.run_id

    def _find_run_id(self, search_filter: str) -> str | None:
        runs = self.client.search_runs([self.experiment_id], filter_string=search_filter, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _run_resumed(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        """Resumes the run. MLflow's params cannot change, so changed options are recorded in a tag."""
        run_id = state["run_id"]
        self._sweep_resumed(folder, state, record)
        state["resumed"] = state.get("resumed", 0) + 1
        changes = " ".join(record["overrides"]) or "no changed options"
        self.client.set_tag(run_id, f"expfw.resumed.{state['resumed']}", f"from step {record['step']}: {changes}")
        if "expfw.error" in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, "expfw.error")

    def _sweep_resumed(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        self.client.update_run(state["run_id"], status="RUNNING")
        self.client.set_tag(state["run_id"], "expfw.status", "RUNNING")

    def _log_params(self, state: dict[str, Any], values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(make_allowed_name(name), str(value)[:MAX_PARAM_LENGTH]) for name, value in values.items()]
        for start in range(0, len(params), PARAMS_PER_BATCH):
            self.client.log_batch(state["run_id"], params=params[start : start + PARAMS_PER_BATCH])

    def _find_parent_run_id(self, sweep_folder: Path, sweep_id: str) -> str:
        """Returns the ID of the parent run, which is created when the sweep's journal is delivered."""
        run_id = read_delivery_state(sweep_folder, self.name).get("run_id") or self._find_run_id(
            make_parent_filter(sweep_id)
        )
        if run_id is None:
            raise LookupError(f"the parent run of sweep {sweep_id} does not exist yet")
        return str(run_id)

    def _dataset(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        from expfw_mlflow.records.dataset_inputs import make_dataset_inputs

        self.client.log_inputs(state["run_id"], datasets=list(make_dataset_inputs(record)))

    def _artifact(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        path = folder / record["path"]
        if path.is_dir():
            self.client.log_artifacts(state["run_id"], str(path), artifact_path=path.name)
        else:
            self.client.log_artifact(state["run_id"], str(path))

    def _note(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        text = record["text"]
        if (objective := state.get("objective")) is not None:
            page = PageUrls("", self.experiment_id).make_curves_url(
                state["run_id"], objective["metric"], objective["mode"]
            )
            text = f"[All trials and their curves]({page}). {text}"
        self.client.set_tag(state["run_id"], "mlflow.note.content", text)

    def _info(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(f"expfw.{name}", str(value)) for name, value in record["values"].items()]
        self.client.log_batch(state["run_id"], tags=tags)

    def _model(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        from expfw_mlflow.records.models import log_model

        if self.config.log_model:
            points = MetricPoints(self.client, state).get_points_at(record["step"])
            log_model(self.client, self.experiment_id, state, folder, record, points)

    def _best(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        """Records the best trial of a sweep and registers its model."""
        if not (folder / record["path"]).exists():
            return  # it was deleted in the meantime
        trial_state = read_delivery_state(folder / record["path"], self.name)
        if "ended" not in trial_state:
            raise LookupError(f"trial {record['trial']}, the best one, is not delivered yet")
        self.client.set_tag(state["run_id"], "expfw.best_run", trial_state["run_id"])
        self._register_model(trial_state)

    def _register_model(self, state: Mapping[str, Any]) -> None:
        from expfw_mlflow.records.models import register_model

        if self.config.register is not None and state.get("models"):
            *_, model_id = state["models"].values()
            register_model(self.client, state["run_id"], model_id, self.config.register, self.config.alias)

    def _run_ended(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        if record["status"] == "FINISHED" and "trial" not in state:
            self._register_model(state)
        self._sweep_ended(folder, state, record)

    def _sweep_ended(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        self.client.set_tag(state["run_id"], "expfw.status", record["status"])
        if record.get("error"):
            self.client.set_tag(state["run_id"], "expfw.error", record["error"])
        if state.get("rejected"):
            self.client.set_tag(state["run_id"], "expfw.rejected", state["rejected"])
        self.client.set_terminated(state["run_id"], _MLFLOW_STATUS[record["status"]], round(record["time"] * 1000))
        state["ended"] = True

    def _interrupted(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        """Ends the run in MLflow, which would otherwise show it as running."""
        self.client.set_tag(state["run_id"], "expfw.status", "INTERRUPTED")
        self.client.set_terminated(state["run_id"], "KILLED", round(record["time"] * 1000))

    @expfw.hookimpl
    def expfw_ui(self, runs_dir: Path, host: str, port: int, show: expfw.UiTarget | None) -> expfw.UserInterface:
        uri = self.get_store_uri(runs_dir)
        with translate_server_errors(uri):
            self.open(runs_dir)
        return make_user_interface(
            OpenStore(uri, self.client, self.experiment_id, self.name), runs_dir, host, port, show
        )

    @expfw.hookimpl
    def expfw_delete(self, runs_dir: Path, ids: list[str]) -> bool:
        if (database := self._find_own_database(runs_dir)) is not None:
            correct_addresses(database)
        delete_from_store(self.get_store_uri(runs_dir), ids, None if database is None else runs_dir / ARTIFACTS_FOLDER)
        return True

    @expfw.hookimpl
    def expfw_doctor(self, runs_dir: Path) -> list[tuple[str, bool, str]]:
        return check_mlflow(self.get_store_uri(runs_dir))
