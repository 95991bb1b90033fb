"""The MLflow tracker: delivers journals of runs as MLflow runs, and journals of sweeps as parent runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import expfw
from expfw_mlflow.records.journal_writer import JournalWriter
from expfw_mlflow.store.database import ARTIFACTS_FOLDER, correct_addresses, get_sqlite_file, make_tables
from expfw_mlflow.store.deletion import delete_from_store
from expfw_mlflow.store.health_check import check_mlflow
from expfw_mlflow.store.uri import disable_retries, remove_credentials, translate_store_errors
from expfw_mlflow.ui.pages import PageUrls, choose_page
from expfw_mlflow.ui.server import make_server_command

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Set before MLflow is imported, which reads it then: no usage data is sent.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


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
        self._configured_uri: str | None = self.config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        uri, supported = self._configured_uri, r"(sqlite|postgresql|mysql|mssql|https?|databricks)(\+\w+)?://"
        if uri and uri != "databricks" and re.match(supported, uri) is None:
            raise expfw.ConfigError(
                f"cannot write to the tracking URI {remove_credentials(uri)!r} (tracker.mlflow.uri, or "
                "MLFLOW_TRACKING_URI); expected http://..., https://..., or a database such as "
                "sqlite:///absolute/path/mlflow.db. MLflow's file store is not supported"
            )

    def get_store_uri(self, runs_dir: Path) -> str:
        """Returns the tracking URI."""
        return self._configured_uri or f"sqlite:///{runs_dir.absolute() / 'mlflow.db'}"

    def destination(self, runs_dir: Path) -> str:
        return f"{remove_credentials(self.get_store_uri(runs_dir))} {self.config.experiment}"

    def _correct_own_database(self, runs_dir: Path) -> bool:
        """Corrects the addresses in mlflow.db of the runs folder; returns whether this tracker writes to it."""
        database = runs_dir.absolute() / "mlflow.db"
        is_own = get_sqlite_file(self.get_store_uri(runs_dir)) == database and database.exists()
        if is_own:
            correct_addresses(database)
        return is_own

    def open(self, runs_dir: Path) -> None:
        disable_retries()
        import mlflow
        from filelock import FileLock

        uri = self.get_store_uri(runs_dir)
        with translate_store_errors(uri), FileLock(runs_dir / "mlflow.lock"):  # one process creates the tables
            make_tables(uri)
            mlflow.set_tracking_uri(uri)
            self.client = mlflow.MlflowClient(uri)
            experiment = self.client.get_experiment_by_name(self.config.experiment)
            self._correct_own_database(runs_dir)
            if experiment is None:
                artifact_uri = (runs_dir / ARTIFACTS_FOLDER).absolute().as_uri() if uri.startswith("sqlite:") else None
                tags = {"mlflow.experimentKind": "custom_model_development"}
                self.experiment_id = self.client.create_experiment(self.config.experiment, artifact_uri, tags)
            elif experiment.lifecycle_stage != "active":
                raise RuntimeError(
                    f"the MLflow experiment {self.config.experiment!r} was deleted; restore it in MLflow, or choose "
                    "another: tracker.mlflow.experiment=NAME"
                )
            else:
                self.experiment_id = experiment.experiment_id
        mlflow.set_experiment(experiment_id=self.experiment_id)

    def read_state(self, folder: Path) -> dict[str, Any]:
        state = super().read_state(folder)
        return state if isinstance(state.get("run_id", ""), str) else {}

    def ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            with translate_store_errors(self.client.tracking_uri):
                writer = JournalWriter(self.client, self.experiment_id, self.read_state, self.config, folder, state)
                writer.write(records)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise LookupError(
                f"the run no longer exists in MLflow ({error.message}); deliver it again from the beginning with: "
                "expfw runs sync --all"
            ) from error

    @expfw.hookimpl
    def expfw_ui(self, runs_dir: Path, host: str, port: int, show: expfw.UiTarget | None) -> expfw.UserInterface:
        from mlflow.exceptions import MlflowException

        uri = self.get_store_uri(runs_dir)
        is_remote = uri.startswith(("http://", "https://"))
        try:
            self.open(runs_dir)
        except (MlflowException, ConnectionError) as error:
            if not is_remote:
                raise
            raise expfw.ConfigError(
                f"no valid response from the tracking server at {remove_credentials(uri)} ({type(error).__name__}); "
                "start it, or set another MLFLOW_TRACKING_URI or tracker.mlflow.uri"
            ) from error
        pages = PageUrls(uri if is_remote else f"http://{host}:{port}", self.experiment_id)
        url, notes = choose_page(self.client, pages, lambda folder: self.read_state(folder).get("run_id"), show)
        artifact_uri = (runs_dir / ARTIFACTS_FOLDER).absolute().as_uri()
        command = [] if is_remote else make_server_command(uri, artifact_uri, host, port)
        return expfw.UserInterface(command, url, notes)

    @expfw.hookimpl
    def expfw_delete(self, runs_dir: Path, ids: list[str]) -> bool:
        artifacts_folder = runs_dir / ARTIFACTS_FOLDER if self._correct_own_database(runs_dir) else None
        delete_from_store(self.get_store_uri(runs_dir), ids, artifacts_folder)
        return True

    @expfw.hookimpl
    def expfw_doctor(self, runs_dir: Path) -> list[tuple[str, bool, str]]:
        return check_mlflow(self.get_store_uri(runs_dir))
