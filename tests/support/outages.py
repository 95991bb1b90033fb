"""Outages of a tracking server during a run, and a check of its data afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from support.tracking_server import ServerProxy
from support.waiting import wait_for

from expfw.tracking import journal, run_index


@contextmanager
def no_outage(proxy: ServerProxy) -> Iterator[None]:
    """No outage."""
    yield


@contextmanager
def server_down(proxy: ServerProxy) -> Iterator[None]:
    """The server is down until the command has ended."""
    proxy.is_down = True
    yield
    proxy.is_down = False


@contextmanager
def server_restart(proxy: ServerProxy) -> Iterator[None]:
    """The server is killed after the first deliveries and restarted 30 seconds later."""

    def restart_server() -> None:
        wait_for(lambda: proxy.call_count > 12, seconds=120)
        proxy.server.kill()
        time.sleep(30)
        proxy.server.start()

    with _running_in_background(restart_server):
        yield


@contextmanager
def server_errors(proxy: ServerProxy) -> Iterator[None]:
    """The server responds with status 500 to every request, in every second interval of 3 seconds."""
    stopped = threading.Event()

    def toggle_errors() -> None:
        while not stopped.wait(3):
            proxy.is_broken = not proxy.is_broken
        proxy.is_broken = False

    with _running_in_background(toggle_errors):
        yield
        stopped.set()


@contextmanager
def slow_server(proxy: ServerProxy) -> Iterator[None]:
    """Each request takes 2 seconds."""
    proxy.delay_seconds = 2.0
    yield
    proxy.delay_seconds = 0.0


CONDITIONS = {
    "no outage": no_outage,
    "down at the start": server_down,
    "killed for 30 s": server_restart,
    "status 500": server_errors,
    "2 s per request": slow_server,
}


@contextmanager
def _running_in_background(action) -> Iterator[None]:
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def run_training(workdir: Path, *overrides: str) -> tuple[run_index.IndexEntry, float, str]:
    """Runs in a new process; returns the entry, the seconds of `read_training_seconds` and stderr."""
    command = [sys.executable, "-m", "expfw", "run", *overrides]
    done = subprocess.run(command, cwd=workdir, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    entry = next(run_index.list_runs(workdir / "runs"))
    return entry, read_training_seconds(entry.folder), done.stderr


def read_training_seconds(folder: Path) -> float:
    """Returns the seconds from the built model to the saved model."""
    times = {record["kind"]: record["time"] for record in journal.read_records(folder / journal.NAME)[0]}
    return times["model"] - times["info"]


def sync_runs(workdir: Path) -> subprocess.CompletedProcess[str]:
    """Runs `expfw runs sync`."""
    command = [sys.executable, "-m", "expfw", "runs", "sync"]
    return subprocess.run(command, cwd=workdir, capture_output=True, text=True, timeout=900)


def find_mlflow_differences(uri: str, entry: run_index.IndexEntry) -> list[str]:
    """Returns a line for each difference between the run in MLflow and the journal; empty if it is complete."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("expfw").experiment_id
    runs = client.search_runs([experiment], f"tags.`expfw.run_id` = '{entry.id}'")
    if len(runs) != 1:
        return [f"{len(runs)} runs"]
    (run,) = runs
    stored_points = sorted(
        (name, point.step, point.value)
        for name in run.data.metrics
        if not name.startswith("system/")
        for point in client.get_metric_history(run.info.run_id, name)
    )
    journal_points = sorted(
        (n, s, v) for s, values in journal.read_points(entry.folder / journal.NAME) for n, v in values.items()
    )
    differences = (
        []
        if stored_points == journal_points
        else [f"{len(stored_points)} points, but {len(journal_points)} in the journal"]
    )
    if run.info.status != entry.status:
        differences.append(f"status {run.info.status}")
    if run.data.params != {name: str(value) for name, value in entry.first["params"].items() if name != "name"}:
        differences.append("different params")
    if len(run.inputs.dataset_inputs) != 3:
        differences.append(f"{len(run.inputs.dataset_inputs)} datasets")
    models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    if [model.status for model in models] != ["READY"]:
        differences.append(f"models {[model.status for model in models]}")
    if "log.txt" not in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}:
        differences.append("no log")
    return differences
