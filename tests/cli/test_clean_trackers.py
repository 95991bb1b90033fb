"""`expfw runs clean` takes runs out of MLflow too, its files with them; what it cannot reach waits."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import ViewType
from support.run_folders import MLFLOW_CONFIG, make_trial_id, run_expfw_in_process, write_run, write_sweep
from support.tracking_server import MLflowServer

from expfw.cli.runs.clean import removal
from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger

SWEEP = "ssss2222"


def known(uri, view=ViewType.ALL):
    """Ids of ours of all that MLflow has in any stage, parents as such."""
    client = mlflow.MlflowClient(uri)
    found = client.search_runs([one.experiment_id for one in client.search_experiments()], run_view_type=view)
    tags = [one.data.tags for one in found]
    return sorted(one.get("expfw.run_id") or f"parent {one['expfw.sweep_id']}" for one in tags)


@pytest.mark.slow
def test_runs_and_sweeps_leave_mlflow_with_their_models_and_files(expfw_here, workdir, caplog):
    quick = ["model=ols", "dataset=line", "train.epochs=2", "callback=[checkpoint]", "quiet=true"]
    assert expfw_here("run", *quick, "tracker.mlflow.register=line").code == 0
    assert expfw_here("sweep", *quick, "seed=0,1,2").code == 0
    runs, uri = workdir / "runs", f"sqlite:///{workdir}/runs/mlflow.db"
    (swept,) = run_index.list_sweeps(runs)
    alone = next(one for one in run_index.list_runs(runs) if one.first["sweep_id"] is None)
    trials = [one.id for one in run_index.list_runs(runs) if one.first["sweep_id"] is not None]
    assert len(known(uri)) == 5
    client = mlflow.MlflowClient(uri)
    files = {Path(one.artifact_location.removeprefix("file://")).parent for one in client.search_logged_models(["1"])}
    assert len(files) == 4
    assert all(one.exists() for one in files)

    done = expfw_here("runs", "clean", swept.id, "--keep-best", "1", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("deleted 2 runs, also in mlflow; ")
    (kept,) = (one for one in trials if one in known(uri))
    assert known(uri) == sorted([alone.id, kept, f"parent {swept.id}"])
    assert len(client.search_logged_models(["1"])) == 2
    assert expfw_here("runs", "sync").out == "0 journals delivered; nothing is left\n"
    assert len(expfw_here("sweeps", "status", swept.id).out.splitlines()) > 5

    # The sweep goes on with what the ledger has of trials that are gone.
    ledger = Ledger(swept.folder)
    failed, done_before = [trial for trial in ledger.read_trials() if trial.folder is None]
    ledger.write(replace(failed, status="FAILED", error="out of luck", objective=None))
    assert expfw_here("sweeps", "retry", swept.id, str(failed.number)).code == 0
    assert ledger.read_trial(done_before.number) == done_before
    again = ledger.read_trial(failed.number)
    assert (again.status, again.objective) == ("FINISHED", failed.objective)
    assert known(uri) == sorted([alone.id, kept, again.run_id, f"parent {swept.id}"])

    assert expfw_here("runs", "clean", swept.id, "--yes").code == 0
    assert known(uri) == [alone.id]
    done = expfw_here("runs", "clean", alone.id, "--yes")
    assert "a model of ols line is registered as line version 1, and stays in MLflow" in caplog.text
    assert done.code == 0
    assert known(uri) == []
    left = [path.name for path in (runs / "mlartifacts").iterdir()]
    assert left == ["models"]
    assert sum(one.exists() for one in files) == 1
    mlflow.set_tracking_uri(uri)
    assert mlflow.pyfunc.load_model("models:/line@best").predict(np.ones((2, 1), np.float32)).shape == (2, 1)
    with sqlite3.connect(runs / "mlflow.db") as connection:
        counts = [connection.execute(f"select count(*) from {table}").fetchone() for table in ("metrics", "params")]
    assert counts == [(0,), (0,)]
    assert not any(path.name.startswith("2") for path in runs.iterdir())


@pytest.mark.slow
def test_a_server_that_is_away_is_asked_later(workdir, capfd, caplog, monkeypatch):
    server = MLflowServer(workdir / "server")
    server.start()
    try:
        uri = f"http://127.0.0.1:{server.port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        runs = workdir / "runs"
        write_run(runs, "aaaa2222", tracker=MLFLOW_CONFIG)
        write_run(runs, "bbbb2222", tracker=MLFLOW_CONFIG)
        write_run(runs, "pppp2222", tracker=MLFLOW_CONFIG)
        write_sweep(runs, SWEEP, [0.1, 0.2], tracker=MLFLOW_CONFIG)
        assert run_expfw_in_process("runs", "sync", "aaaa", "bbbb", SWEEP) == 0
        trials = [make_trial_id(SWEEP, number) for number in (0, 1)]
        assert known(uri) == sorted(["aaaa2222", "bbbb2222", *trials, f"parent {SWEEP}"])
        server.kill()

        assert run_expfw_in_process("runs", "clean", "aaaa", SWEEP, "--yes") == 1
        said = capfd.readouterr()
        assert f"mlflow: {uri} does not answer" in said.err
        assert "`expfw runs clean --yes` does what is left, once that is mended" in said.err
        assert sorted(one.id for one in run_index.list_runs(runs)) == ["bbbb2222", "pppp2222"]
        rest = removal.find_unfinished(runs)
        assert len(rest) == 2
        assert {path.name for one in rest for path in one.iterdir()} == {
            "journal.jsonl",
            "tracking",
        }  # the disk is free
        assert run_expfw_in_process("runs", "clean", "--yes") == 1  # it is still away
        assert run_expfw_in_process("runs", "clean", "bbbb", "--no-tracker", "--yes") == 0
        assert removal.find_unfinished(runs) == rest  # these still have to be asked for

        server.start()
        assert known(uri, ViewType.ACTIVE_ONLY) == sorted(["aaaa2222", "bbbb2222", *trials, f"parent {SWEEP}"])
        capfd.readouterr()
        assert (
            run_expfw_in_process("runs", "clean", "pppp", "--yes") == 0
        )  # it never arrived there; the others are deleted with it
        said = capfd.readouterr()
        assert said.out.startswith("deleted 1 run and what an earlier one left behind (2), also in mlflow; ")
        assert "to free its disk, there: mlflow gc" in caplog.text
        assert removal.find_unfinished(runs) == []
        assert known(uri, ViewType.ACTIVE_ONLY) == ["bbbb2222"]
        assert len(known(uri)) == 5
    finally:
        server.kill()
