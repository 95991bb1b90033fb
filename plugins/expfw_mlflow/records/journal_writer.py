"""Writes the journal of a run or sweep to its run in MLflow."""

from __future__ import annotations

import itertools
import logging
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw_mlflow.records.dataset_inputs import make_dataset_inputs
from expfw_mlflow.records.models import log_model, register_model
from expfw_mlflow.ui.pages import PageUrls

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = logging.getLogger("expfw.mlflow")
_MAX_PARAM_LENGTH, _MAX_RUN_NAME_LENGTH, _MAX_METRIC_NAME_LENGTH = 6000, 250, 240
_MLFLOW_STATUS = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "PRUNED": "KILLED"}
_METRIC_TAGS = ("metrics_step", "metrics_epoch")
_MLFLOW_TAGS = {"user": "mlflow.user", "command": "mlflow.source.name", "git_commit": "mlflow.source.git.commit"}


@dataclass
class JournalWriter:
    """Writes records of one journal.

    Attributes:
        client: connected to the tracking server.
        experiment_id: MLflow's ID of the experiment.
        read_state: returns the saved state for the journal in another folder.
        config: options of the tracker.
        folder: folder of the run or sweep.
        state: the tracker's state for this journal, which is changed.
    """

    client: MlflowClient
    experiment_id: str
    read_state: Callable[[Path], Mapping[str, Any]]
    config: Any
    folder: Path
    state: dict[str, Any]
    # MLflow stores one point for each name, step and millisecond; the last one is logged.
    _unlogged_points: dict[tuple[str, int, int], Metric] = field(default_factory=dict, init=False)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Logs metrics in batches and calls the method `_KIND` for any other record; skips kinds without a method."""
        for record in records:
            kind = record["kind"]
            if kind in ("metrics", "system"):
                self._add_points(record)
            elif (handler := getattr(self, f"_{kind}", None)) is not None:
                self._log_points()
                if "run_id" in self.state:
                    self._try_call(partial(handler, record), kind)
                else:
                    handler(record)  # no later record can be delivered without the run
        self._log_points()

    def _try_call(self, call: Callable[[], object], subject: str | None) -> bool:
        """Calls `call`; returns whether MLflow accepts it. Raises errors that a retry may fix.

        The first rejection of a run with a `subject` is recorded in the state, for the user.
        """
        from mlflow.exceptions import MlflowException

        try:
            call()
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            log.warning("rejected by MLflow: %s", error.message)
            if subject is not None:
                self.state.setdefault("rejected", f"{subject}: {str(error.message).rstrip('.')}")
            return False
        return True

    def _add_points(self, record: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric

        time, step = round(record["time"] * 1000), record["step"]
        for name, value in record["values"].items():
            metric_name = self._get_metric_name(name if record["kind"] == "metrics" else f"system/{name}")
            self._unlogged_points[metric_name, step, time] = Metric(metric_name, value, time, step)

    def _get_metric_name(self, name: str) -> str:
        """Returns a name that MLflow accepts and that is unique in the run; the state contains the changed names."""
        allowed_name = make_allowed_name(name)
        if allowed_name == name:
            return name
        names: dict[str, str] = self.state.setdefault("names", {})
        if name not in names:
            numbered_names = (f"{allowed_name}_{number}" for number in itertools.count(2))
            names[name] = next(n for n in itertools.chain([allowed_name], numbered_names) if n not in names.values())
        return names[name]

    def _log_points(self) -> None:
        """Logs the collected points and saves the last point of each metric in the state."""
        points, self._unlogged_points = list(self._unlogged_points.values()), {}
        if points:
            self._log_batch(points)
        last_points = {point.key: [point.value, point.timestamp, point.step] for point in points}
        self.state.setdefault("last", {}).update(last_points)

    def _log_batch(self, batch: Sequence[Metric]) -> None:
        """Logs points; if MLflow rejects some of them, the others are still logged."""
        subject = f"{batch[0].key} at step {batch[0].step}" if len(batch) == 1 else None
        log_batch = partial(self.client.log_batch, self.state["run_id"], metrics=batch)
        if not self._try_call(log_batch, subject) and len(batch) > 1:
            middle = len(batch) // 2
            self._log_batch(batch[:middle])
            self._log_batch(batch[middle:])

    def _run_started(self, record: Mapping[str, Any]) -> None:
        tags = {
            "expfw.run_id": record["id"],
            "expfw.folder": str(self.folder),
            "expfw.fingerprint": record["fingerprint"],
            **{_MLFLOW_TAGS.get(name, f"expfw.{name}"): value for name, value in record["environment"].items()},
            **_get_own_tags(record),
        }
        if (sweep_id := record["sweep_id"]) is not None:
            self.state["trial"] = record["trial"]
            sweep_state = self.read_state(Path(record["sweep_folder"]))
            parent_id = sweep_state.get("run_id") or self._find_run_id(_make_parent_filter(sweep_id))
            if parent_id is None:  # it is created when the sweep's journal is delivered
                raise LookupError(f"the parent run of sweep {sweep_id} does not exist yet")
            tags |= {"expfw.sweep_id": sweep_id, "expfw.trial": f"{record['trial']}", "mlflow.parentRunId": parent_id}
        # Without the name: MLflow stores it already, and as a parameter it would be an axis of every comparison.
        params = {name: value for name, value in record["params"].items() if name != "name"}
        self._start(record, tags, f"tags.`expfw.run_id` = '{record['id']}'", params)

    def _sweep_started(self, record: Mapping[str, Any]) -> None:
        self.state["objective"] = record["objective"]
        tags = {"expfw.sweep_id": record["id"], "expfw.sweep": "parent", "expfw.folder": str(self.folder)}
        tags |= _get_own_tags(record)
        tags[_MLFLOW_TAGS["command"]] = shlex.join(["expfw", "sweep", *record["overrides"]])
        self._start(record, tags, _make_parent_filter(record["id"]), {"overrides": " ".join(record["overrides"])})

    def _start(
        self, record: Mapping[str, Any], tags: dict[str, str], search_filter: str, params: Mapping[str, Any]
    ) -> None:
        """Creates the run, unless `search_filter` finds it: a killed process created it and did not save its ID."""
        from mlflow.entities import Param

        if "run_id" not in self.state and (run_id := self._find_run_id(search_filter)) is not None:
            self.state["run_id"] = run_id
        if "run_id" not in self.state:
            start, name = round(record["time"] * 1000), record["name"][:_MAX_RUN_NAME_LENGTH]
            run = self.client.create_run(self.experiment_id, start_time=start, tags=tags, run_name=name)
            self.state["run_id"] = run.info.run_id
        run_params = [Param(make_allowed_name(key), str(value)[:_MAX_PARAM_LENGTH]) for key, value in params.items()]
        self.client.log_batch(self.state["run_id"], params=run_params)

    def _find_run_id(self, search_filter: str) -> str | None:
        runs = self.client.search_runs([self.experiment_id], filter_string=search_filter, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _run_resumed(self, record: Mapping[str, Any]) -> None:
        """Resumes the run. MLflow's params cannot change, so changed options are recorded in a tag."""
        run_id = self.state["run_id"]
        self._sweep_resumed(record)
        self.state["resumed"] = self.state.get("resumed", 0) + 1
        changes = " ".join(record["overrides"]) or "no changed options"
        self.client.set_tag(run_id, f"expfw.resumed.{self.state['resumed']}", f"from step {record['step']}: {changes}")
        tags = self.client.get_run(run_id).data.tags
        for name in {f"expfw.{name}" for name in ("error", *_METRIC_TAGS)} & tags.keys():
            self.client.delete_tag(run_id, name)

    def _sweep_resumed(self, record: Mapping[str, Any]) -> None:
        self.client.update_run(self.state["run_id"], status="RUNNING")
        self.client.set_tag(self.state["run_id"], "expfw.status", "RUNNING")

    def _dataset(self, record: Mapping[str, Any]) -> None:
        self.client.log_inputs(self.state["run_id"], datasets=list(make_dataset_inputs(record)))

    def _artifact(self, record: Mapping[str, Any]) -> None:
        path = self.folder / record["path"]
        if path.is_dir():
            self.client.log_artifacts(self.state["run_id"], str(path), artifact_path=path.name)
        else:
            self.client.log_artifact(self.state["run_id"], str(path))

    def _note(self, record: Mapping[str, Any]) -> None:
        run_id, text = self.state["run_id"], record["text"]
        if (objective := self.state.get("objective")) is not None:
            pages = PageUrls("", self.experiment_id)
            page = pages.make_curves_url(run_id, record.get("metric") or objective["metric"], objective["mode"])
            text = f"[All trials and their curves]({page}). {text}"
        self.client.set_tag(run_id, "mlflow.note.content", text)

    def _info(self, record: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(f"expfw.{name}", str(value)) for name, value in record["values"].items()]
        self.client.log_batch(self.state["run_id"], tags=tags)

    def _model(self, record: Mapping[str, Any]) -> None:
        if self.config.log_model:
            log_model(self.client, self.experiment_id, self.state, self.folder, record)

    def _best(self, record: Mapping[str, Any]) -> None:
        """Records the best trial of a sweep and registers its model."""
        trial_folder = self.folder / record["path"]
        if not trial_folder.exists():
            return  # it was deleted in the meantime
        trial_state = self.read_state(trial_folder)
        if "ended" not in trial_state:
            raise LookupError(f"trial {record['trial']}, the best one, is not delivered yet")
        self.client.set_tag(self.state["run_id"], "expfw.best_run", trial_state["run_id"])
        register_model(self.client, trial_state, self.config.register, self.config.alias)

    def _run_ended(self, record: Mapping[str, Any]) -> None:
        if record["status"] == "FINISHED" and "trial" not in self.state:
            register_model(self.client, self.state, self.config.register, self.config.alias)
        self._sweep_ended(record)

    def _sweep_ended(self, record: Mapping[str, Any]) -> None:
        run_id, error, rejected = self.state["run_id"], record.get("error"), self.state.get("rejected")
        tags = {"status": record["status"], "error": error, "rejected": rejected}
        tags |= {name: record.get(name) for name in _METRIC_TAGS}
        for name, value in tags.items():
            if value is not None:
                self.client.set_tag(run_id, f"expfw.{name}", str(value))
        self.client.set_terminated(run_id, _MLFLOW_STATUS[record["status"]], round(record["time"] * 1000))
        self.state["ended"] = True

    def _interrupted(self, record: Mapping[str, Any]) -> None:
        """Ends the run in MLflow, which would otherwise show it as running."""
        self.client.set_tag(self.state["run_id"], "expfw.status", "INTERRUPTED")
        self.client.set_terminated(self.state["run_id"], "KILLED", round(record["time"] * 1000))


def _make_parent_filter(sweep_id: str) -> str:
    """Returns MLflow's search filter for the parent run of a sweep."""
    return f"tags.`expfw.sweep_id` = '{sweep_id}' and tags.`expfw.sweep` = 'parent'"


def _get_own_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tags of the user."""
    return {make_allowed_name(name): value for name, value in record["tags"].items()}


def make_allowed_name(name: str) -> str:
    """Returns a name that MLflow accepts: letters, digits, `_-. :/`, a normal path, up to 240 characters."""
    replaced = re.sub(r"[^\w\-. :/]", "_", name)
    return posixpath.normpath("/" + replaced).strip("/")[:_MAX_METRIC_NAME_LENGTH] or "_"
