"""`expfw runs clean` deletes runs and their files from MLflow, later if the server does not respond."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import ViewType
from support.run_folders import MLFLOW_CONFIG, make_trial_id, write_run, write_sweep
from support.tracking_server import MLflowServer

from expfw.cli.runs.clean import removal
from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger

SWEEP = "ssss2222"


def list_ids(uri, view=ViewType.ALL):
    """Returns the expfw IDs of all runs in MLflow, and a text for each parent run."""
    client = mlflow.MlflowClient(uri)
    mlflow_runs = client.search_runs([item.experiment_id for item in client.search_experiments()], run_view_type=view)
    tags = [item.data.tags for item in mlflow_runs]
    return sorted(item.get("expfw.run_id") or f"parent {item['expfw.sweep_id']}" for item in tags)


@pytest.mark.slow
def test_runs_and_sweeps_are_deleted_from_mlflow_with_models_and_files(expfw_here, workdir, caplog):
    quick = ["model=ols", "dataset=line", "train.epochs=2", "callback=[checkpoint]", "quiet=true"]
    assert expfw_here("run", *quick, "tracker.mlflow.register=line").code == 0
    assert expfw_here("sweep", *quick, "seed=0,1,2").code == 0
    runs, uri = workdir / "runs", f"sqlite:///{workdir}/runs/mlflow.db"
    (swept,) = run_index.list_sweeps(runs)
    single_run = next(item for item in run_index.list_runs(runs) if item.first["sweep_id"] is None)
    trials = [item.id for item in run_index.list_runs(runs) if item.first["sweep_id"] is not None]
    assert len(list_ids(uri)) == 5
    client = mlflow.MlflowClient(uri)
    files = {Path(item.artifact_location.removeprefix("file://")).parent for item in client.search_logged_models(["1"])}
    assert len(files) == 4
    assert all(item.exists() for item in files)

    done = expfw_here("runs", "clean", swept.id, "--keep-best", "1", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("deleted 2 runs, also in mlflow; ")
    (kept,) = (item for item in trials if item in list_ids(uri))
    assert list_ids(uri) == sorted([single_run.id, kept, f"parent {swept.id}"])
    assert len(client.search_logged_models(["1"])) == 2
    assert expfw_here("runs", "sync").out == "0 journals delivered; nothing left to deliver\n"
    assert len(expfw_here("sweeps", "status", swept.id).out.splitlines()) > 5

    # The sweep is retried with the results of deleted trials from the ledger.
    ledger = Ledger(swept.folder)
    failed, done_before = [trial for trial in ledger.read_trials() if trial.folder is None]
    ledger.write(replace(failed, status="FAILED", error="out of luck", objective=None))
    assert expfw_here("sweeps", "retry", swept.id, str(failed.number)).code == 0
    assert ledger.read_trial(done_before.number) == done_before
    again = ledger.read_trial(failed.number)
    assert (again.status, again.objective) == ("FINISHED", failed.objective)
    assert list_ids(uri) == sorted([single_run.id, kept, again.run_id, f"parent {swept.id}"])

    assert expfw_here("runs", "clean", swept.id, "--yes").code == 0
    assert list_ids(uri) == [single_run.id]
    done = expfw_here("runs", "clean", single_run.id, "--yes")
    assert "a model of ols line is registered as line version 1 and stays in MLflow" in caplog.text
    assert done.code == 0
    assert list_ids(uri) == []
    left = [path.name for path in (runs / "mlartifacts").iterdir()]
    assert left == ["models"]
    assert sum(item.exists() for item in files) == 1
    mlflow.set_tracking_uri(uri)
    assert mlflow.pyfunc.load_model("models:/line@best").predict(np.ones((2, 1), np.float32)).shape == (2, 1)
    with sqlite3.connect(runs / "mlflow.db") as connection:
        counts = [connection.execute(f"select count(*) from {table}").fetchone() for table in ("metrics", "params")]
    assert counts == [(0,), (0,)]
    assert not any(path.name.startswith("2") for path in runs.iterdir())


@pytest.mark.slow
def test_a_deletion_waits_for_a_tracking_server_that_is_down(workdir, expfw_here, caplog, monkeypatch):
    server = MLflowServer(workdir / "server")
    server.start()
    try:
        uri = f"http://127.0.0.1:{server.port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        runs = workdir / "runs"
        for run_id in ("aaaa2222", "bbbb2222", "pppp2222"):
            write_run(runs, run_id, tracker=MLFLOW_CONFIG)
        write_sweep(runs, SWEEP, [0.1, 0.2], tracker=MLFLOW_CONFIG)
        assert expfw_here("runs", "sync", "aaaa", "bbbb", SWEEP).code == 0
        delivered = sorted(["aaaa2222", "bbbb2222", *(make_trial_id(SWEEP, n) for n in (0, 1)), f"parent {SWEEP}"])
        assert list_ids(uri) == delivered
        server.kill()

        done = expfw_here("runs", "clean", "aaaa", SWEEP, "--yes")
        assert done.code == 1
        assert f"mlflow: {uri} does not respond" in done.err
        assert "fix the problem, then finish with: expfw runs clean --yes" in done.err
        assert sorted(item.id for item in run_index.list_runs(runs)) == ["bbbb2222", "pppp2222"]
        unfinished = removal.find_unfinished(runs)
        assert len(unfinished) == 2
        remaining_names = {path.name for item in unfinished for path in item.iterdir()}
        assert remaining_names == {"journal.jsonl", "tracking"}  # all other files are deleted
        assert expfw_here("runs", "clean", "--yes").code == 1  # the server is still down
        assert expfw_here("runs", "clean", "bbbb", "--no-tracker", "--yes").code == 0
        assert removal.find_unfinished(runs) == unfinished  # these still wait for the server

        server.start()
        assert list_ids(uri, ViewType.ACTIVE_ONLY) == delivered
        done = expfw_here("runs", "clean", "pppp", "--yes")  # never delivered; the other deletions are finished, too
        assert done.code == 0
        assert done.out.startswith("deleted 1 run and 2 partly deleted folders, also in mlflow; ")
        assert "to free disk space, run there: mlflow gc" in caplog.text
        assert removal.find_unfinished(runs) == []
        assert list_ids(uri, ViewType.ACTIVE_ONLY) == ["bbbb2222"]
        assert len(list_ids(uri)) == 5
    finally:
        server.kill()
