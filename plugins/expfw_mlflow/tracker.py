"""The MLflow tracker: journals become runs, sweeps become parents."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import expfw
from expfw_mlflow.records.delivery_state import remembered
from expfw_mlflow.records.metrics import Points, allowed
from expfw_mlflow.records.rejected import unless_refused
from expfw_mlflow.store.deletion import delete
from expfw_mlflow.store.health_check import fitness
from expfw_mlflow.store.relocation import ARTIFACTS, follow
from expfw_mlflow.store.schema_setup import file_of, make_tables
from expfw_mlflow.store.uri import answering, be_impatient, check_address
from expfw_mlflow.ui import colors
from expfw_mlflow.ui.open import OpenStore, answering_server, user_interface
from expfw_mlflow.ui.urls import Pages, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Read when MLflow is imported: nobody is told who tracks what.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
LONGEST_PARAM, LONGEST_NAME = 6000, 250
PARAMS_PER_BATCH = 100
_STATUS = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "PRUNED": "KILLED"}
_TAGS = {"user": "mlflow.user", "command": "mlflow.source.name", "git_commit": "mlflow.source.git.commit"}


class MLflow(expfw.Tracker):
    """Writes to an MLflow tracking server, or to SQLite in the runs folder, where `expfw ui` shows it."""

    preload = ("mlflow", "mlflow.pyfunc")

    @dataclass
    class Config:
        uri: str | None = expfw.option(
            None, help="tracking URI; by default MLFLOW_TRACKING_URI, else mlflow.db in runs_dir"
        )
        experiment: str = expfw.option("expfw", help="name of the MLflow experiment")
        log_model: bool = expfw.option(True, help="whether the trained model is logged")
        register: str | None = expfw.option(
            None, help="name under which the model of a run, or the best one of a sweep, is registered"
        )
        alias: str = expfw.option("best", help="alias that points to the version registered last")

        def __post_init__(self) -> None:
            if self.register is not None and not re.fullmatch(r"[^/:]+", self.register):
                raise ValueError(f"register is {self.register!r}; expected a name without / and :")
            if not re.fullmatch(r"(?!latest$|v\d+$)[\w-]+", self.alias):
                raise ValueError(f"alias is {self.alias!r}; expected letters, digits, _ and -, and not latest or v1")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.client: MlflowClient
        self.experiment_id = ""
        check_address(self.config.uri or os.environ.get("MLFLOW_TRACKING_URI"))

    def store(self, runs_dir: Path) -> str:
        """The tracking URI."""
        given: str | None = self.config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{runs_dir.absolute() / 'mlflow.db'}"

    def _own(self, runs_dir: Path) -> Path | None:
        """The database in the runs folder, where it is that which is written to."""
        database = runs_dir.absolute() / "mlflow.db"
        return database if file_of(self.store(runs_dir)) == database and database.exists() else None

    def destination(self, runs_dir: Path) -> str:
        return f"{without_password(self.store(runs_dir))} {self.config.experiment}"

    def open(self, runs_dir: Path) -> None:
        be_impatient()
        import mlflow
        from filelock import FileLock

        uri = self.store(runs_dir)
        with answering(uri), FileLock(runs_dir / "mlflow.lock"):  # tables are made once, whoever comes first
            make_tables(uri)
            mlflow.set_tracking_uri(uri)
            self.client = mlflow.MlflowClient(uri)
            found = self.client.get_experiment_by_name(self.config.experiment)
            if found is None:
                artifacts = (runs_dir / ARTIFACTS).absolute().as_uri() if uri.startswith("sqlite:") else None
                self.experiment_id = self.client.create_experiment(self.config.experiment, artifact_location=artifacts)
                self.client.set_experiment_tag(self.experiment_id, "mlflow.experimentKind", "custom_model_development")
            else:
                if (database := self._own(runs_dir)) is not None:
                    follow(database)
                if found.lifecycle_stage != "active":
                    raise RuntimeError(
                        f"the MLflow experiment {self.config.experiment!r} was deleted; restore it there, "
                        "or use another, with tracker.mlflow.experiment=NAME"
                    )
                self.experiment_id = found.experiment_id
        mlflow.set_experiment(experiment_id=self.experiment_id)

    def ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            with answering(self.client.tracking_uri):
                self._ship(folder, state, records)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise LookupError(
                    f"MLflow no longer has what it had of this run ({error.message}); "
                    f"`expfw runs sync --all` delivers it again, from the beginning"
                ) from error
            raise

    def _ship(self, folder: Path, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        points = Points(self.client, state)
        for record in records:
            kind = record["kind"]
            if kind in ("metrics", "system"):
                points.add(record)
            elif (handle := getattr(self, f"_{kind}", None)) is not None:
                points.log()
                if "run_id" in state:
                    unless_refused(state, kind, partial(handle, folder, state, record))
                else:
                    handle(folder, state, record)  # without the run itself nothing can follow
        points.log()

    def _run_started(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        tags = {
            "expfw.run_id": record["id"],
            "expfw.folder": str(folder),
            "expfw.fingerprint": record["fingerprint"],
            **{_TAGS.get(name, f"expfw.{name}"): value for name, value in record["environment"].items()},
            **{allowed(name): value for name, value in record["tags"].items()},
        }
        if record["sweep_id"] is not None:
            tags["expfw.sweep_id"] = record["sweep_id"]
            tags["expfw.trial"] = str(record["trial"])
            state["trial"] = record["trial"]
            tags["mlflow.runColor"] = colors.of_trial(record["trial"])
            tags["mlflow.parentRunId"] = self._parent(Path(record["sweep_folder"]), record["sweep_id"])
        self._create(state, record, tags, f"tags.`expfw.run_id` = '{record['id']}'")
        # Not the name: MLflow has it, and as a parameter it would be an axis of every comparison.
        self._params(state, {name: value for name, value in record["params"].items() if name != "name"})

    def _sweep_started(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        state["objective"] = record["objective"]
        tags = {"expfw.sweep_id": record["id"], "expfw.sweep": "parent", "expfw.folder": str(folder)}
        tags[_TAGS["command"]] = shlex.join(["expfw", "sweep", *record["overrides"]])
        self._create(state, record, tags, _parent_of(record["id"]))
        self._params(state, {"overrides": " ".join(record["overrides"])})

    def _create(self, state: dict[str, Any], record: Mapping[str, Any], tags: dict[str, str], wanted: str) -> None:
        """Makes the run; takes the one that is `wanted` where it was made before and nobody could note it."""
        if "run_id" not in state and (found := self._found(wanted)) is not None:
            state["run_id"] = found
        if "run_id" not in state:
            start = round(record["time"] * 1000)
            run = self.client.create_run(
                self.experiment_id, start_time=start, tags=tags, run_name=record["name"][:LONGEST_NAME]
            )
            state["run_id"] = run.info.run_id

    def _found(self, wanted: str) -> str | None:
        runs = self.client.search_runs([self.experiment_id], filter_string=wanted, max_results=1)
        return str(runs[0].info.run_id) if runs else None

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

        params = [Param(allowed(name), str(value)[:LONGEST_PARAM]) for name, value in values.items()]
        for part in _parts(params, PARAMS_PER_BATCH):
            self.client.log_batch(state["run_id"], params=part)

    def _parent(self, sweep_folder: Path, sweep_id: str) -> str:
        """The parent's run, which the sweep's own journal made first."""
        found = remembered(sweep_folder, self.name).get("run_id") or self._found(_parent_of(sweep_id))
        if found is None:
            raise LookupError(f"the parent run of sweep {sweep_id} is not there yet")
        return str(found)

    def _dataset(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        from expfw_mlflow.records.dataset_inputs import dataset_inputs

        self.client.log_inputs(state["run_id"], datasets=list(dataset_inputs(record)))

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
        from mlflow.entities import RunTag

        tags = [RunTag(f"expfw.{name}", str(value)) for name, value in record["values"].items()]
        self.client.log_batch(state["run_id"], tags=tags)

    def _model(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:

        from expfw_mlflow.records.models import log_model

        if self.config.log_model:
            points = Points(self.client, state).at(record["step"])
            log_model(self.client, self.experiment_id, state, folder, record, points)

    def _best(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        """The best trial of a sweep."""
        if not (folder / record["path"]).exists():
            return  # it was deleted meanwhile
        theirs = remembered(folder / record["path"], self.name)
        if "ended" not in theirs:
            raise LookupError(f"trial {record['trial']}, the best one, is not delivered yet")
        self.client.set_tag(state["run_id"], "expfw.best_run", theirs["run_id"])
        self._register(theirs)

    def _register(self, state: Mapping[str, Any]) -> None:
        from expfw_mlflow.records.models import register

        if self.config.register is not None and state.get("models"):
            *_, model_id = state["models"].values()
            register(self.client, state["run_id"], model_id, self.config.register, self.config.alias)

    def _run_ended(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        if record["status"] == "FINISHED" and "trial" not in state:
            self._register(state)
        self._end(state, record)

    def _sweep_ended(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        self._end(state, record)

    def _end(self, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        self.client.set_tag(state["run_id"], "expfw.status", record["status"])
        if record.get("error"):
            self.client.set_tag(state["run_id"], "expfw.error", record["error"])
        if state.get("refused"):
            self.client.set_tag(state["run_id"], "expfw.refused", state["refused"])
        self.client.set_terminated(state["run_id"], _STATUS[record["status"]], round(record["time"] * 1000))
        state["ended"] = True

    def _interrupted(self, folder: Path, state: dict[str, Any], record: Mapping[str, Any]) -> None:
        """MLflow would show the run as running for ever."""
        self.client.set_tag(state["run_id"], "expfw.status", "INTERRUPTED")
        self.client.set_terminated(state["run_id"], "KILLED", round(record["time"] * 1000))

    @expfw.hookimpl
    def expfw_ui(self, runs_dir: Path, host: str, port: int, show: expfw.Shown | None) -> expfw.UserInterface:
        uri = self.store(runs_dir)
        with answering_server(uri):
            self.open(runs_dir)
        return user_interface(OpenStore(uri, self.client, self.experiment_id, self.name), runs_dir, host, port, show)

    @expfw.hookimpl
    def expfw_delete(self, runs_dir: Path, ids: list[str]) -> bool:
        if (database := self._own(runs_dir)) is not None:
            follow(database)
        delete(self.store(runs_dir), ids, None if database is None else runs_dir / ARTIFACTS)
        return True

    @expfw.hookimpl
    def expfw_doctor(self, runs_dir: Path) -> list[tuple[str, bool, str]]:
        return fitness(self.store(runs_dir))


def _parent_of(sweep_id: str) -> str:
    """How to search for the parent run of a sweep."""
    return f"tags.`expfw.sweep_id` = '{sweep_id}' and tags.`expfw.sweep` = 'parent'"


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
