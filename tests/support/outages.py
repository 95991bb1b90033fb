"""What can happen to a tracking server while a run trains, and whether it has everything in the end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from support.tracking_server import Gate
from support.waiting import wait_for

from expfw.tracking import journal, run_index


@contextmanager
def well(gate: Gate) -> Iterator[None]:
    """Nothing happens."""
    yield


@contextmanager
def down(gate: Gate) -> Iterator[None]:
    """Nobody answers until the command has ended."""
    gate.down = True
    yield
    gate.down = False


@contextmanager
def dies(gate: Gate) -> Iterator[None]:
    """The server is killed once the run has begun to arrive, and is back thirty seconds later."""

    def outage() -> None:
        wait_for(lambda: gate.calls > 12, seconds=120)
        gate.server.kill()
        time.sleep(30)
        gate.server.start()

    with _beside(outage):
        yield


@contextmanager
def broken(gate: Gate) -> Iterator[None]:
    """Every other three seconds it answers 500, whatever it is asked."""
    over = threading.Event()

    def trouble() -> None:
        while not over.wait(3):
            gate.broken = not gate.broken
        gate.broken = False

    with _beside(trouble):
        yield
        over.set()


@contextmanager
def slow(gate: Gate) -> Iterator[None]:
    """Each call takes two seconds."""
    gate.seconds = 2.0
    yield
    gate.seconds = 0.0


CONDITIONS = {
    "well": well,
    "down at the start": down,
    "dies midway for 30 s": dies,
    "answers 500": broken,
    "2 s a call": slow,
}


@contextmanager
def _beside(action) -> Iterator[None]:
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def trained(workdir: Path, *overrides: str) -> tuple[run_index.Entry, float, str]:
    """The run that a command of its own makes, its `training_seconds`, and what the command said."""
    command = [sys.executable, "-m", "expfw", "run", *overrides]
    done = subprocess.run(command, cwd=workdir, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    entry = next(run_index.runs(workdir / "runs"))
    return entry, training_seconds(entry.folder), done.stderr


def training_seconds(folder: Path) -> float:
    """From the built model to the saved one."""
    times = {record["kind"]: record["time"] for record in journal.read(folder / journal.NAME)[0]}
    return times["model"] - times["facts"]


def sync(workdir: Path) -> subprocess.CompletedProcess[str]:
    """`expfw runs sync`."""
    command = [sys.executable, "-m", "expfw", "runs", "sync"]
    return subprocess.run(command, cwd=workdir, capture_output=True, text=True, timeout=900)


def lacking(uri: str, entry: run_index.Entry) -> list[str]:
    """In what MLflow's record of a run differs from the journal: a line each, none where it is complete."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("expfw").experiment_id
    runs = client.search_runs([experiment], f"tags.`expfw.run_id` = '{entry.id}'")
    if len(runs) != 1:
        return [f"{len(runs)} runs"]
    (run,) = runs
    stored = sorted(
        (name, point.step, point.value)
        for name in run.data.metrics
        if not name.startswith("system/")
        for point in client.get_metric_history(run.info.run_id, name)
    )
    written = sorted((n, s, v) for s, values in journal.points(entry.folder / journal.NAME) for n, v in values.items())
    found = [] if stored == written else [f"{len(stored)} points, of which the journal has {len(written)}"]
    if run.info.status != entry.status:
        found.append(f"status {run.info.status}")
    if run.data.params != {name: str(value) for name, value in entry.first["params"].items() if name != "name"}:
        found.append("other params")
    if len(run.inputs.dataset_inputs) != 3:
        found.append(f"{len(run.inputs.dataset_inputs)} datasets")
    models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
    if [model.status for model in models] != ["READY"]:
        found.append(f"models {[model.status for model in models]}")
    if "log.txt" not in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}:
        found.append("no log")
    return found
