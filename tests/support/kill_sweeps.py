"""Starts real sweeps, kills them with all their processes, lets them go on, and compares their final tables."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import mlflow
import psutil

from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger

EXPFW = (sys.executable, "-m", "expfw")
NETWORK = ("dataset=digits", "model=mlp_keras", "train.epochs=120", "train.log_every=20", "quiet=true")
GRID = (*NETWORK, "seed=1,2,3", "sweep.slots=1")
SEARCH = (
    *NETWORK,
    "model.optimizer.learning_rate=tag(log,interval(1e-3,1))",
    "model.units=8,16",
    "sweep.sampler=tpe",
    "sweep.trials=5",
    "sweep.startup=2",
    "sweep.slots=1",
)


def _make_environment():
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


def start_sweep(workdir, *overrides):
    """A sweep as a user would start it."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*EXPFW, "sweep", *overrides], cwd=workdir, env=_make_environment(), **quiet)


def kill_process_tree(process):
    """The command, what it forks trials from, the trials, and what delivers to the tracker: at once."""
    process_tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in process_tree:
        member.kill()
    process.wait()
    psutil.wait_procs(process_tree, timeout=10)


def get_only_sweep(workdir):
    """The only sweep in the runs folder; None where none has begun."""
    sweeps = list(run_index.list_sweeps(workdir / "runs")) if (workdir / "runs").exists() else []
    return sweeps[0] if sweeps else None


def run_uninterrupted(workdir, *overrides):
    """A sweep that nobody disturbs, and the seconds that it took."""
    began = time.monotonic()
    with start_sweep(workdir, *overrides) as process:
        assert process.wait(600) == 0
    return get_only_sweep(workdir), time.monotonic() - began


def resume_sweep(workdir):
    """The sweep after it went on; it may have to be killed and resumed again."""
    command = [*EXPFW, "sweeps", "resume", get_only_sweep(workdir).id]
    done = subprocess.run(command, cwd=workdir, env=_make_environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return get_only_sweep(workdir)


def read_final_table(entry):
    """The final table, without what no two sweeps share."""
    trials = Ledger(entry.folder).read_trials()
    return [(t.number, t.name, t.fingerprint, t.status, t.objective, t.metrics) for t in trials]


def read_mlflow_trials(workdir):
    """Names and statuses of the trials in MLflow, and how many parents they have."""
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("expfw").experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    names_and_statuses = sorted((run.info.run_name, run.info.status) for run in children)
    return names_and_statuses, {run.data.tags["mlflow.parentRunId"] for run in children}
