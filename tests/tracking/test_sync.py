"""`expfw runs sync`: missing records are delivered, and no record twice."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import mlflow
import pytest
from support.outages import find_mlflow_differences

from expfw.cli.doctor.machine import check_runs_folder
from expfw.tracking import journal, run_index
from expfw.tracking.run_index import Workspace
from expfw.tracking.shipper import delivery

ROOT = Path(__file__).resolve().parents[2]
CSV = str(ROOT / "docs" / "authors" / "examples" / "csv_tracker.py")
DIGITS = ("dataset=digits", "train.epochs=2", "train.log_every=1")


@pytest.fixture
def run(train, workdir):
    """Entry of a run without a tracker."""
    train(*DIGITS)
    return run_index.list_runs(workdir / "runs")[0]


def check_store(workdir, run, experiment="expfw"):
    """Checks that MLflow's store in the runs folder has everything of the run, and nothing twice."""
    assert find_mlflow_differences(f"sqlite:///{workdir}/runs/mlflow.db", run, experiment) == []


@pytest.mark.slow
def test_a_run_without_a_tracker_is_delivered_later_without_duplicates(run, expfw_here, workdir):
    done = expfw_here("runs", "sync")
    assert done.code == 0
    command = f"expfw runs sync {run.id} 'tracker=[mlflow]'"
    assert f"1 journal recorded without a tracker; to deliver them: {command}" in done.err
    done = expfw_here("runs", "sync", run.id[:5], "tracker=[mlflow]")
    assert (done.code, done.out) == (0, "1 journal delivered; nothing left to deliver\n")
    check_store(workdir, run)
    assert json.loads(expfw_here("runs", "show", run.id, "--json").out)["tracking"] == {"mlflow": "complete"}
    done = expfw_here("runs", "sync", run.id, "tracker=[mlflow]")
    assert done.out == "0 journals delivered; nothing left to deliver\n"

    shutil.rmtree(run.folder / "tracking")  # the delivery progress is lost
    for argument in (run.id, "--all"):
        done = expfw_here("runs", "sync", argument, "tracker=[mlflow]")
        assert done.out == "1 journal delivered; nothing left to deliver\n"
    check_store(workdir, run)


@pytest.mark.slow
def test_another_destination_gets_the_whole_journal(run, expfw_here, workdir):
    for experiment in ("expfw", "other"):
        done = expfw_here("runs", "sync", run.id, "tracker=[mlflow]", f"tracker.mlflow.experiment={experiment}")
        assert done.code == 0, done.err
        check_store(workdir, run, experiment)


@pytest.mark.slow
def test_sync_all_refills_a_store_that_lost_its_data(run, expfw_here, workdir):
    expfw_here("runs", "sync", run.id, "tracker=[mlflow]")
    for file in (workdir / "runs").glob("mlflow.db*"):
        file.unlink()
    done = expfw_here("runs", "sync", "--all", run.id, "tracker=[mlflow]")
    assert done.code == 0, done.err
    check_store(workdir, run)


DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[1]",
    "a text as offset": lambda text: text.replace('"offset": ', '"offset": "x", "rest": '),
    "no state": lambda text: text.replace('"state": {', '"state": 3, "rest": {'),
    "a number as MLflow's ID": lambda text: text.replace('"run_id": "', '"run_id": 7, "rest": "'),
    "deep": lambda text: "[" * 100_000,
    "not UTF-8": lambda text: b"\xff\xfe",
    "a folder": None,
}


@pytest.mark.slow
def test_damaged_progress_of_one_run_affects_only_this_run(train, expfw_here, workdir):
    """For each kind of damage one run; another run is delivered."""
    for _ in (*DAMAGE, "good"):
        train("dataset=digits", "model=perceptron", "train.steps=2", "callback=[]")
    runs = run_index.list_runs(workdir / "runs")
    mlflow_only = ("tracker=[mlflow]",)
    assert expfw_here("runs", "sync", *mlflow_only).code == 0
    good, *damaged = runs
    with_number = damaged[list(DAMAGE).index("a number as MLflow's ID")]  # only the tracker knows this type
    for run, damage in zip(damaged, DAMAGE.values(), strict=True):
        path = run.folder / "tracking" / "mlflow.json"
        text = path.read_text()
        path.unlink()
        if damage is None:
            path.mkdir()
        else:
            new = damage(text)
            assert new != text
            path.write_bytes(new if isinstance(new, bytes) else new.encode())
    with journal.Journal(good.folder / journal.NAME) as record:
        record.write("message", step=2, text="one more record")
        record.write("run_ended", **{key: value for key, value in good.last.items() if key not in ("kind", "time")})
    done = expfw_here("runs", "sync", *mlflow_only)
    assert (done.code, done.out) == (1, f"1 journal delivered, {len(DAMAGE) - 1} not delivered\n")
    lines = [line for line in done.err.splitlines() if line.startswith(str(workdir))]
    remedy = "/tracking/mlflow.json is damaged; delete it, and `expfw runs sync` delivers all records again"
    assert sorted(lines) == sorted(f"{run.folder}{remedy}" for run in damaged if run is not with_number)
    assert "Traceback" not in done.err
    for run in damaged:
        assert expfw_here("runs", "show", run.id).code == 0
    assert "is damaged; delete it" in expfw_here("runs", "show", damaged[0].id, "--json").out
    findings = {result for _, result, *_ in check_runs_folder(Workspace(workdir / "runs"))}
    assert f"runs and sweeps not delivered to the trackers: {len(DAMAGE) - 1}" in findings
    for run in damaged:
        path = run.folder / "tracking" / "mlflow.json"
        path.rmdir() if path.is_dir() else path.unlink()
    assert expfw_here("runs", "sync", *mlflow_only).code == 0
    for run in runs:
        check_store(workdir, run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tracker=[mlflow]", "tracker.mlflow.uri=ftp://me:word@host"], "the tracking URI 'ftp://host'"),
        (["tracker=[mlflow]", "tracker.mlflow.uri=nonsense"], "expected http://..., https://..., or a database"),
        (["tracker=[mlflow]", "tracker.mlflow.register=a/b"], "register is 'a/b'; expected a name without / and :"),
        (["tracker=[mlflow]", "tracker.mlflow.alias=v3"], "alias is 'v3'; expected letters, digits"),
    ],
)
def test_invalid_sync_commands_are_one_line_errors(run, expfw_here, arguments, message):
    done = expfw_here("runs", "sync", *arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


@pytest.mark.slow
def test_sync_reports_journals_that_are_not_delivered(run, expfw_here):
    done = expfw_here("runs", "sync", "tracker=[mlflow]", "tracker.mlflow.uri=http://127.0.0.1:9")  # without a server
    assert (done.code, done.out) == (1, "0 journals delivered, 1 not delivered\n")
    assert "could not be delivered to mlflow (http://127.0.0.1:9 does not respond); no data is lost" in done.err


@pytest.mark.slow
def test_a_third_party_tracker_works_next_to_mlflow(expfw_here, workdir):
    """Trackers are plugins, and two of them can run at once; this one is a file in docs/authors/examples."""
    done = expfw_here("-p", CSV, "sweep", *DIGITS, "model.units=4,8", "tracker=[mlflow,csv]")
    assert done.code == 0, done.err
    tables = workdir / "runs" / "tables"
    rows = list(csv.reader((tables / "runs.csv").read_text().splitlines()))
    assert sorted(row[1:3] for row in rows) == [["units=4", "FINISHED"], ["units=8", "FINISHED"]]
    store = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    assert len(store.search_runs(["1"])) == 3
    for entry in run_index.list_all(workdir / "runs"):
        assert delivery.describe_progress(entry.folder) == {"csv": "complete", "mlflow": "complete"}
    table = next(tables.glob("????????.csv"))
    content = table.read_bytes()
    table.write_bytes(content + b"an incomplete row of a crash")
    assert expfw_here("runs", "sync", "--all", table.stem).code == 0
    assert table.read_bytes() == content
