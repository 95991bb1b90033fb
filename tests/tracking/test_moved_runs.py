"""A moved or copied runs folder has its own MLflow store: it writes and deletes only its own files."""

import os
import shutil
from pathlib import Path

import mlflow
import pytest
from support import run_folders

from expfw.tracking.ledger import Ledger
from expfw_mlflow.store import database, health_check
from expfw_mlflow.tracker import MLflow


def open_tracker(runs_dir):
    tracker = MLflow(MLflow.Config(), "mlflow")
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # `open` sets it; a real shipper opens each tracker only once
    tracker.open(runs_dir)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return tracker


def add_run(tracker, identity, folder):
    """Creates a run with a file and a logged model, as the tracker does; returns both MLflow IDs."""
    client = tracker.client
    run = client.create_run(tracker.experiment_id, tags={"expfw.run_id": identity, "expfw.folder": str(folder)})
    client.log_text(run.info.run_id, "kept", "note.txt")
    model = client.create_logged_model(tracker.experiment_id, "model", run.info.run_id)
    (folder / "weights").write_text("weights")
    client.log_model_artifacts(model.model_id, str(folder))
    return run.info.run_id, model.model_id


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    return tmp_path / "runs"


def test_artifacts_move_with_their_runs_folder_and_others_stay(runs, tmp_path, caplog):
    tracker = open_tracker(runs)
    run_id, model_id = add_run(tracker, "aaaa1111", runs / "one")
    new = tmp_path / "sp ace ü"
    shutil.copytree(runs, new)
    old_run_id, _ = add_run(tracker, "bbbb2222", runs / "one")
    shutil.copy(runs / "mlflow.db", new / "mlflow.db")  # it contains artifacts that only the old folder has

    text, is_ok, remedy = health_check.check_mlflow(f"sqlite:///{new / 'mlflow.db'}")[1]
    assert (text, is_ok) == (f"its store {new / 'mlflow.db'} has artifacts at {runs / 'mlartifacts'}", True)
    assert "corrects the addresses" in remedy
    assert database.list_old_addresses(runs / "mlflow.db") == []
    (tmp_path / "link").symlink_to(runs)  # the same folder
    assert database.list_old_addresses(tmp_path / "link" / "mlflow.db") == []

    tracker.client.create_experiment("users", artifact_location="s3://bucket/mlartifacts")
    shutil.copy(runs / "mlflow.db", new / "mlflow.db")
    new_tracker = open_tracker(new)
    assert database.list_old_addresses(new / "mlflow.db") == []
    client = new_tracker.client
    assert client.get_experiment_by_name("users").artifact_location == "s3://bucket/mlartifacts"
    for address in (
        client.get_experiment(new_tracker.experiment_id).artifact_location,
        client.get_run(run_id).info.artifact_uri,
        client.get_logged_model(model_id).artifact_location,
    ):
        assert database.parse_file_address(address).is_relative_to(new / "mlartifacts")
        assert database.parse_file_address(address).is_dir()
    assert client.get_run(run_id).data.tags["expfw.folder"] == str(new / "one")
    assert database.parse_file_address(client.get_run(old_run_id).info.artifact_uri).is_relative_to(runs)
    assert mlflow.artifacts.load_text(f"{client.get_run(run_id).info.artifact_uri}/note.txt") == "kept"

    before = {path for path in runs.rglob("*") if "mlartifacts" in path.parts}
    add_run(new_tracker, "cccc3333", new / "one")
    new_tracker.expfw_delete(new, ["aaaa1111", "bbbb2222", "cccc3333"])
    assert {path for path in runs.rglob("*") if "mlartifacts" in path.parts} == before
    assert not [path for path in (new / "mlartifacts").rglob("*") if path.is_file()]
    assert "is in another runs folder and is not deleted" in caplog.text


def test_trials_of_a_moved_sweep_are_in_its_new_folder(workdir):
    folder = run_folders.write_sweep(workdir / "runs", "ssss2222", [0.5, None], ["FINISHED", "FAILED"])
    (workdir / "runs").rename(workdir / "moved")
    new_folder = workdir / "moved" / folder.relative_to(workdir / "runs")
    for trial in Ledger(new_folder).read_trials():
        assert trial.folder is not None
        assert Path(trial.folder).parent == new_folder / "trials"
        assert trial.read_current_state().status == trial.status
