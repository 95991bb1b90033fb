"""Runs with several processes: killed workers, restart from a checkpoint, parameter servers."""

from __future__ import annotations

import pytest
from support.equal_metrics import find_free_addresses, read_metrics
from support.processes import start_expfw, wait_for

from expfw.tracking import run_index

pytestmark = pytest.mark.slow

DIGITS = ("dataset=digits", "model=mlp_keras", "tracker=[]", "quiet=true", "train.log_every=1")


@pytest.fixture
def start(workdir):
    """Starts `expfw run` in new processes; kills the remaining ones at the end."""
    processes = []

    def call(*arguments):
        processes.append(start_expfw(workdir, "run", *arguments, TMPDIR=str(workdir)))
        return processes[-1]

    yield call
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get_latest_run(workdir):
    return next(iter(run_index.list_runs(workdir / "runs")))


def checkpoints(workdir):
    return sorted((workdir / "runs").glob("*/*/checkpoints/0*"))


def start_workers(start, *options):
    hosts = f"backend.hosts=[{','.join(find_free_addresses(2))}]"
    return [start(*DIGITS, "backend=multi-worker", hosts, f"backend.index={i}", *options) for i in (0, 1)]


def test_a_killed_worker_fails_the_run_and_a_new_run_starts_from_its_checkpoint(workdir, start):
    chief, worker = start_workers(start, "train.epochs=100000")
    wait_for(lambda: checkpoints(workdir))
    worker.kill()
    output, _ = chief.communicate(timeout=60)
    assert chief.returncode == 1
    assert "another worker has ended or cannot be reached, after step" in output
    assert "train.begin_from=CHECKPOINT" in output
    failed = get_latest_run(workdir)
    assert failed.status == "FAILED"

    last = checkpoints(workdir)[-1]
    step = int(last.name)
    restarted = start_workers(start, f"train.begin_from={last}", f"train.epochs={step // 21 + 2}")
    assert [process.wait(timeout=120) for process in restarted] == [0, 0]
    run = get_latest_run(workdir)
    assert run.status == "FINISHED"
    losses = read_metrics(run.folder)["train/loss"]
    assert min(losses) == step
    earlier_losses = read_metrics(failed.folder)["train/loss"]
    for number in set(losses) & set(earlier_losses):
        assert losses[number] == pytest.approx(earlier_losses[number], rel=1e-5)


def start_servers(start, *options):
    chief, ps, one, two = find_free_addresses(4)
    shared = (*options, "backend=parameter-server", f"backend.chief={chief}", f"backend.ps=[{ps}]")
    shared = (*shared, f"backend.workers=[{one},{two}]")
    return {task: start(*shared, f"backend.task={task}") for task in ("chief:0", "ps:0", "worker:0", "worker:1")}


@pytest.mark.parametrize(
    "options",
    [
        (*DIGITS, "train.epochs=20", "model.optimizer.learning_rate=0.02"),
        ("dataset=line", "model=ols", "tracker=[]", "quiet=true", "train.steps=300"),
    ],
)
def test_parameter_servers_train_keras_models_and_modules(workdir, start, options):
    processes = start_servers(start, *options)
    outputs = {task: process.communicate(timeout=120)[0] for task, process in processes.items()}
    assert {process.returncode for process in processes.values()} == {0}, outputs
    run = get_latest_run(workdir)
    assert run.status == "FINISHED"
    metrics = run.last["metrics"]
    assert metrics["train/epoch_loss"] < 0.5
    assert "dataset=line" in options or metrics["test/accuracy"] > 0.85
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
    workers = start_workers(start, "train.epochs=100000")
    wait_for(lambda: checkpoints(workdir))
    workers[victim].terminate()
    assert [worker.wait(timeout=60) for worker in workers] == [130, 130]
    run = get_latest_run(workdir)
    assert run.status == "KILLED"
    assert int(checkpoints(workdir)[-1].name) == run.last["steps"]
