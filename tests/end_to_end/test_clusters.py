"""Runs with several processes: killed workers, restart from a checkpoint, parameter servers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.equal_metrics import find_free_addresses, read_metrics
from support.waiting import wait_for

from expfw.tracking import journal, run_index

pytestmark = pytest.mark.slow

DIGITS = ("dataset=digits", "model=mlp_keras", "tracker=[]", "quiet=true", "train.log_every=1")


@pytest.fixture
def start(workdir):
    """Starts `expfw run` in new processes; kills the remaining ones at the end."""
    processes = []

    def call(*arguments):
        command = [sys.executable, "-m", "expfw", "run", *arguments]
        environment = {**os.environ, "TMPDIR": str(workdir)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        processes.append(process)
        return process

    yield call
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get_latest_run(workdir):
    return next(iter(run_index.list_runs(workdir / "runs")))


def checkpoints(workdir):
    return sorted((workdir / "runs").glob("*/*/checkpoints/0*"))


def test_a_killed_worker_fails_the_run_and_a_new_run_starts_from_its_checkpoint(workdir, start):
    options = (*DIGITS, "backend=multi-worker", f"backend.hosts=[{','.join(find_free_addresses(2))}]")
    chief = start(*options, "backend.index=0", "train.epochs=100000")
    worker = start(*options, "backend.index=1", "train.epochs=100000")
    wait_for(lambda: checkpoints(workdir))
    worker.kill()
    output, _ = chief.communicate(timeout=60)
    assert chief.returncode == 1
    assert "another worker has ended or cannot be reached, after step" in output
    assert "train.begin_from=CHECKPOINT" in output
    assert get_latest_run(workdir).status == "FAILED"

    last = checkpoints(workdir)[-1]
    step = int(last.name)
    restarted = [
        start(*options, f"backend.index={i}", f"train.begin_from={last}", f"train.epochs={step // 21 + 2}")
        for i in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in restarted] == [0, 0]
    run = get_latest_run(workdir)
    assert run.status == "FINISHED"
    losses = read_metrics(run.folder)["train/loss"]
    assert min(losses) == step
    earlier = read_metrics(
        next(entry.folder for entry in run_index.list_runs(workdir / "runs") if entry.status == "FAILED")
    )
    for number in set(losses) & set(earlier["train/loss"]):
        assert losses[number] == pytest.approx(earlier["train/loss"][number], rel=1e-5)


def start_servers(start, *options):
    chief, ps, one, two = find_free_addresses(4)
    shared = (*options, "backend=parameter-server", f"backend.chief={chief}", f"backend.ps=[{ps}]")
    shared = (*shared, f"backend.workers=[{one},{two}]")
    return {task: start(*shared, f"backend.task={task}") for task in ("chief:0", "ps:0", "worker:0", "worker:1")}


@pytest.mark.parametrize(
    ("options", "minimums"),
    [
        ((*DIGITS, "train.epochs=20", "model.optimizer.learning_rate=0.02"), {"test/accuracy": 0.85}),
        (("dataset=line", "model=ols", "tracker=[]", "quiet=true", "train.steps=300"), {}),
    ],
)
def test_parameter_servers_train_keras_models_and_modules(workdir, start, options, minimums):
    processes = start_servers(start, *options)
    outputs = {task: process.communicate(timeout=120)[0] for task, process in processes.items()}
    assert {process.returncode for process in processes.values()} == {0}, outputs
    run = get_latest_run(workdir)
    assert run.status == "FINISHED"
    result = journal.read_first_and_last(run.folder / journal.NAME)[1]
    assert result["metrics"]["train/epoch_loss"] < 0.5
    for name, minimum in minimums.items():
        assert result["metrics"][name] > minimum
    assert "serves until the chief ends" in outputs["ps:0"]
    assert sorted(path.name for path in workdir.iterdir()) == ["runs"]


@pytest.mark.parametrize("victim", ["worker:1", "ps:0"])
def test_a_killed_server_or_worker_fails_the_run(workdir, start, victim):
    processes = start_servers(start, *DIGITS, "train.epochs=100000")
    wait_for(lambda: checkpoints(workdir))
    processes[victim].kill()
    output, _ = processes["chief:0"].communicate(timeout=60)
    assert processes["chief:0"].returncode == 1
    assert "a parameter server or a worker has ended or cannot be reached, after step" in output
    others = [process for task, process in processes.items() if task not in (victim, "chief:0")]
    assert [process.wait(timeout=30) for process in others] == [0, 0]


@pytest.mark.parametrize("victim", [0, 1])
def test_sigterm_to_a_worker_stops_all_at_the_same_step_with_a_checkpoint(workdir, start, victim):
    options = (
        *DIGITS,
        "backend=multi-worker",
        f"backend.hosts=[{','.join(find_free_addresses(2))}]",
        "train.epochs=100000",
    )
    workers = [start(*options, f"backend.index={number}") for number in (0, 1)]
    wait_for(lambda: checkpoints(workdir))
    workers[victim].terminate()
    assert [worker.wait(timeout=60) for worker in workers] == [130, 130]
    run = get_latest_run(workdir)
    assert run.status == "KILLED"
    assert int(checkpoints(workdir)[-1].name) == run.last["steps"]
