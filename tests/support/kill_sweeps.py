"""Real sweeps whose processes are killed: kills, resumes and final tables."""

from __future__ import annotations

import time

import mlflow
import psutil
from support.processes import run_expfw

from expfw.tracking import run_index
from expfw.tracking.ledger import Ledger

NETWORK = ("dataset=digits", "model=mlp_keras", "train.epochs=120", "train.log_every=20", "quiet=true")
GRID = (*NETWORK, "seed=1,2,3", "sweep.slots=1")
SEARCH = (
    *NETWORK, "model.optimizer.learning_rate=tag(log,interval(1e-3,1))", "model.units=8,16", "sweep.sampler=tpe",
    "sweep.trials=5", "sweep.startup=2", "sweep.slots=1",
)  # fmt: skip


def kill_process_tree(process):
    """Kills the main process, the fork server, the trial processes and the shipper process at once."""
    process_tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in process_tree:
        member.kill()
    process.wait()
    psutil.wait_procs(process_tree, timeout=10)


def get_only_sweep(workdir):
    """Returns the only sweep in the runs folder, or None if no sweep has started."""
    sweeps = run_index.list_sweeps(workdir / "runs") if (workdir / "runs").exists() else []
    return sweeps[0] if sweeps else None


def run_uninterrupted(workdir, *overrides):
    """Runs a sweep without kills; returns its entry and its seconds."""
    began = time.monotonic()
    run_expfw(workdir, "sweep", *overrides, check=True)
    return get_only_sweep(workdir), time.monotonic() - began


def resume_sweep(workdir, *options):
    """Resumes the sweep; returns its entry."""
    run_expfw(workdir, "sweeps", "resume", get_only_sweep(workdir).id, *options, check=True)
    return get_only_sweep(workdir)


def read_final_table(entry):
    """Returns the final table without the columns that differ between sweeps."""
    trials = Ledger(entry.folder).read_trials()
    return [(t.number, t.name, t.fingerprint, t.status, t.objective, t.metrics) for t in trials]


def read_mlflow_trials(workdir):
    """Returns names and statuses of the trials in MLflow, and the IDs of their parents."""
    client = mlflow.MlflowClient(f"sqlite:///{workdir}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("expfw").experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    names_and_statuses = sorted((run.info.run_name, run.info.status) for run in children)
    parents = {run.data.tags["mlflow.parentRunId"] for run in children}
    assert len(runs) == len(children) + len(parents)  # there are no other runs
    return names_and_statuses, parents
