"""`expfw runs sync`: missing records are delivered, and no record twice."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import mlflow
import pytest
from support.outages import find_mlflow_differences
from support.run_folders import write_run

from expfw.cli.doctor.machine import check_runs_folder
from expfw.tracking import run_index
from expfw.tracking.run_index import Workspace
from expfw.tracking.shipper import delivery
from expfw_mlflow.tracker import MLflow

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
    "deep": lambda text: "[" * 100_000,
    "not UTF-8": lambda text: b"\xff\xfe",
}


@pytest.mark.slow
def test_runs_with_damaged_progress_are_delivered_again_and_the_others_are_not_affected(expfw_here, workdir, caplog):
    mlflow_only = {"mlflow": dataclasses.asdict(MLflow.Config()) | {"plugin": "mlflow"}}
    runs_dir = workdir / "runs"
    folders = [write_run(runs_dir, f"dddd222{number}", tracker=mlflow_only) for number in range(len(DAMAGE) + 1)]
    assert expfw_here("runs", "sync").code == 0
    for folder, damage in zip(folders[1:], DAMAGE.values(), strict=True):
        path = folder / "tracking" / "mlflow.json"
        content = damage(path.read_text())
        assert content != path.read_text()
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for folder in folders:
        assert expfw_here("runs", "show", folder.name[-8:]).code == 0
        assert caplog.text.count(f"ignoring {folder}/tracking/mlflow.json, which is damaged") == (folder != folders[0])
    findings = {finding.text for finding in check_runs_folder(Workspace(runs_dir))}
    assert f"runs and sweeps not delivered to the trackers: {len(DAMAGE)}" in findings
    done = expfw_here("runs", "sync")
    assert (done.code, done.out) == (0, f"{len(DAMAGE)} journals delivered; nothing left to deliver\n")
    assert [delivery.describe_progress(folder) for folder in folders] == [{"mlflow": "complete"}] * len(folders)
    runs = mlflow.MlflowClient(f"sqlite:///{runs_dir}/mlflow.db").search_runs(["1"])
    assert sorted(run.data.tags["expfw.run_id"] for run in runs) == [folder.name[-8:] for folder in folders]


@pytest.mark.slow
def test_a_folder_whose_name_is_not_text_does_not_stop_the_delivery_of_others(expfw_here, workdir):
    tracker = {"mlflow": dataclasses.asdict(MLflow.Config()) | {"plugin": "mlflow", "uri": "http://127.0.0.1:9"}}
    write_run(workdir / "runs", "dddd2221", tracker=tracker)
    write_run(workdir / "runs", "dddd2222", tracker=tracker, folder=workdir / "runs" / "day" / "name-\udcff")
    done = expfw_here("runs", "sync")
    assert (done.code, done.out) == (1, "0 journals delivered, 2 not delivered\n"), done.err


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
    assert expfw_here("-p", CSV, "runs", "sync", "--all", table.stem).code == 0
    assert table.read_bytes() == content
