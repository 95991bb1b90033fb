"""A tracking server that is down, dies, answers 500 or is slow: the training does not notice, and no point is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import mlflow
import pytest
from tracking_server import Gate, MLflowServer
from waiting import wait_for

from expfw import folders, journal

pytestmark = pytest.mark.slow

TRAINING = (
    "run", "dataset=digits", "model=mlp_keras", "train.steps=30000", "train.log_every=1",
    "train.evaluate_every.steps=3000", "callback=[system_metrics]", "callback.system_metrics.seconds=1", "quiet=true",
)  # fmt: skip
ALLOWED = 1.15  # of the time without a tracker; benchmarks/tracking.py measures with more care, and allows 1.05


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = MLflowServer(tmp_path_factory.mktemp("server"))
    one.start()
    yield one
    one.kill()


@pytest.fixture
def gate(server):
    if server.process is None:
        server.start()
    one = Gate(server)
    yield one
    one.close()


def trained(workdir, *overrides):
    """The run that a command of its own makes, and the seconds from the built model to the saved one."""
    command = [sys.executable, "-m", "expfw", *TRAINING, *overrides]
    done = subprocess.run(command, cwd=workdir, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    entry = next(folders.runs(workdir / "runs"))
    return entry, training_seconds(entry.folder), done.stderr


def training_seconds(folder):
    times = {record["kind"]: record["time"] for record in journal.read(folder / journal.NAME)[0]}
    return times["model"] - times["facts"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Seconds of the training without a tracker: the best of three, as others run beside."""
    folder = tmp_path_factory.mktemp("alone")
    return min(trained(folder, "tracker=[]")[1] for _ in range(3))


def sync(workdir):
    command = [sys.executable, "-m", "expfw", "runs", "sync"]
    return subprocess.run(command, cwd=workdir, capture_output=True, text=True, timeout=600)


def check_complete(gate, entry):
    """Every point of the journal is in MLflow once, and the rest of the record too."""
    client = mlflow.MlflowClient(gate.address)
    experiment = client.get_experiment_by_name("expfw").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`expfw.run_id` = '{entry.id}'")
    stored = sorted(
        (name, point.step, point.value)
        for name in run.data.metrics
        if not name.startswith("system/")
        for point in client.get_metric_history(run.info.run_id, name)
    )
    written = sorted((n, s, v) for s, values in journal.points(entry.folder / journal.NAME) for n, v in values.items())
    assert len(written) > 60_000
    assert stored == written
    assert run.info.status == "FINISHED"
    assert run.data.params["train.steps"] == "30000"
    assert {dataset.dataset.name for dataset in run.inputs.dataset_inputs} >= {"digits train", "digits test"}
    (output,) = run.outputs.model_outputs
    assert client.get_logged_model(output.model_id).status == "READY"
    assert "log.txt" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_a_server_that_is_well(workdir, gate, alone):
    entry, seconds, _ = trained(workdir, f"tracker.mlflow.uri={gate.address}")
    check_complete(gate, entry)
    assert seconds < ALLOWED * alone


def test_a_server_that_is_down_at_the_start(workdir, gate, alone):
    gate.down = True
    entry, seconds, said = trained(workdir, f"tracker.mlflow.uri={gate.address}")
    assert seconds < ALLOWED * alone
    assert "one journal could not be delivered to mlflow" in said
    assert "`expfw runs sync` delivers what is left" in said
    failed = sync(workdir)
    assert failed.returncode == 1
    assert failed.stdout == "0 journals delivered, 1 left\n"
    gate.down = False
    done = sync(workdir)
    assert (done.returncode, done.stdout) == (0, "1 journal delivered; nothing is left\n"), done.stderr
    check_complete(gate, entry)
    assert sync(workdir).stdout == "0 journals delivered; nothing is left\n"


def test_a_server_that_dies_midway_for_thirty_seconds(workdir, gate, alone, server):
    def outage():
        wait_for(lambda: gate.calls > 12)  # it has begun to deliver
        server.kill()
        time.sleep(30)
        server.start()

    thread = threading.Thread(target=outage)
    thread.start()
    entry, seconds, _ = trained(workdir, f"tracker.mlflow.uri={gate.address}")
    thread.join()
    assert seconds < ALLOWED * alone
    done = sync(workdir)
    assert done.returncode == 0, done.stderr
    check_complete(gate, entry)


def test_a_server_that_answers_500(workdir, gate, alone):
    def trouble():
        for _ in range(6):
            gate.broken = not gate.broken
            time.sleep(1.5)
        gate.broken = False

    thread = threading.Thread(target=trouble)
    thread.start()
    entry, seconds, _ = trained(workdir, f"tracker.mlflow.uri={gate.address}")
    thread.join()
    assert seconds < ALLOWED * alone
    assert sync(workdir).returncode == 0
    check_complete(gate, entry)


def test_a_slow_server(workdir, gate, alone):
    gate.seconds = 2.0
    command = [sys.executable, "-m", "expfw", *TRAINING, f"tracker.mlflow.uri={gate.address}"]
    process = subprocess.Popen(command, cwd=workdir, stderr=subprocess.PIPE, text=True)
    entry = wait_for(lambda: next((e for e in folders.runs(workdir / "runs") if e.status == "FINISHED"), None), 120)
    seconds = training_seconds(entry.folder)
    gate.seconds = 0.0  # the training is over; the rest need not take minutes
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert seconds < ALLOWED * alone
    sync(workdir)
    check_complete(gate, entry)


def test_four_trials_at_a_time_write_a_hundred_thousand_points_into_one_store(workdir):
    options = (
        "dataset=digits",
        "model=mlp_keras",
        "train.steps=12500",
        "train.log_every=1",
        "callback=[]",
        "quiet=true",
    )
    command = [sys.executable, "-m", "expfw", "sweep", *options, "model.units=8,16,24,32", "sweep.slots=4"]
    done = subprocess.run(command, cwd=workdir, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sync(workdir).returncode == 0
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    total = 0
    for entry in folders.runs(workdir / "runs"):
        kept = json.loads((entry.folder / "tracking" / "mlflow.json").read_text())
        for name in ("train/loss", "train/accuracy"):
            history = client.get_metric_history(kept["state"]["run_id"], name)
            assert [point.step for point in sorted(history, key=lambda p: p.step)] == list(range(12_500))
            total += len(history)
    assert total == 100_000
    assert os.listdir(workdir / "runs" / ".shipping") == []
