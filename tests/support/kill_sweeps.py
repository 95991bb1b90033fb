"""Real sweeps whose processes are killed: kills, resumes and final tables."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import mlflow
import psutil
from support.processes import run_expfw, start_expfw, wait_for

from expfw.system import process_lock
from expfw.tracking import journal, run_index
from expfw.tracking.ledger import Ledger

NETWORK = ("dataset=digits", "model=mlp_keras", "train.epochs=120", "train.log_every=20", "quiet=true")
GRID = (*NETWORK, "seed=1,2,3", "sweep.slots=1")
SEARCH = (
    *NETWORK, "model.optimizer.learning_rate=tag(log,interval(1e-3,1))", "model.units=8,16", "sweep.sampler=tpe",
    "sweep.trials=5", "sweep.startup=2", "sweep.slots=1",
)  # fmt: skip
PARTS = ("command", "server", "shipper", "trial")
PAIRS = tuple(itertools.combinations(PARTS, 2))


def find_parts(workdir, process):
    """Returns the processes of a running sweep by part; without those that do not run."""
    parts = {"command": psutil.Process(process.pid)}
    for child in parts["command"].children():
        line = " ".join(child.cmdline())
        parts |= {"server": child} if "multiprocessing.forkserver" in line else {}
        parts |= {"shipper": child} if "expfw.tracking.shipper" in line else {}
    for path in workdir.glob("runs/*/*/trials/*/process.json"):
        if (path.parent / "checkpoints").exists() and process_lock.has_live_process(path.parent):
            parts["trial"] = psutil.Process(json.loads(path.read_text())["pid"])
    return parts


def kill_parts(workdir, process, names, delay=0.0):
    """Kills these parts at once while a trial trains, `delay` seconds after the first checkpoint.

    Returns whether it has killed them; False if the sweep has ended before.
    """

    def find():
        try:
            parts = find_parts(workdir, process)
        except (psutil.Error, OSError, ValueError):  # a process has just started or ended
            return process.poll() is not None
        return process.poll() is not None or (parts if parts.keys() == {*PARTS} else None)

    wait_for(find)
    time.sleep(delay)
    parts = wait_for(find)
    if parts is True:
        return False
    for name in names:
        parts[name].kill()
    return True


def kill_and_compare(workdir, overrides, names, reference, delay=0.0):
    """Kills these parts of a sweep, finishes sweep and delivery, and returns the differences from `reference`."""
    with tempfile.TemporaryDirectory(prefix="k-") as temporary:  # its path is short, as a socket requires
        with start_expfw(workdir, "sweep", *overrides, "sweep.on_failure=retry(1)", TMPDIR=temporary) as process:
            has_killed = kill_parts(workdir, process, names, delay)
            try:
                process.communicate(timeout=300)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        finish_sweep(workdir, TMPDIR=temporary)
        faults = find_faults(workdir, names, reference)
        left = [path.name for folder in (temporary, workdir / "runs/.delivery") for path in Path(folder).iterdir()]
    return faults + ([] if has_killed else ["nothing was killed"]) + ([f"left behind: {left}"] if left else [])


def find_faults(workdir, names, reference):
    """Compares a finished sweep of which parts were killed with an uninterrupted one; returns a list of differences."""
    sweep, faults = get_only_sweep(workdir), []
    table, expected_table = read_final_table(sweep), read_final_table(reference)
    if table != expected_table:
        faults.append("table")
    trials = Ledger(sweep.folder).read_trials()
    run_folders = list(sweep.folder.glob("trials/*"))
    if "trial" not in names and (len(run_folders) > len(trials) or any(trial.attempt > 1 for trial in trials)):
        faults.append(f"{len(run_folders)} runs")
    for folder in [sweep.folder, *run_folders]:
        records, size = journal.read_records(folder / journal.NAME)
        points = Counter((name, r["step"]) for r in records if r["kind"] == "metrics" for name in r["values"])
        ends = [index for index, record in enumerate(records) if record["kind"] in journal.END_KINDS]
        starts = [index for index, record in enumerate(records) if record["kind"].endswith(("_started", "_resumed"))]
        if size != (folder / journal.NAME).stat().st_size or (
            folder != sweep.folder and max(points.values(), default=0) > 1
        ):
            faults.append(f"journal of {folder.name}")
        if len(ends) > len(starts) or ends[-1:] != [len(records) - 1]:
            faults.append(f"end of {folder.name}")
    mlflow_trials, parents = read_mlflow_trials(workdir)
    finished_names = [name for name, status in mlflow_trials if status == "FINISHED"]
    if finished_names != sorted(row[1] for row in expected_table) or len(parents) != 1:
        faults.append(f"MLflow has {mlflow_trials}")
    if "trial" not in names and len(mlflow_trials) != len(finished_names):
        faults.append(f"MLflow has {mlflow_trials}")
    return faults


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


def resume_sweep(workdir, *options, **variables):
    """Resumes the sweep; returns its entry."""
    run_expfw(workdir, "sweeps", "resume", get_only_sweep(workdir).id, *options, check=True, **variables)
    return get_only_sweep(workdir)


def finish_sweep(workdir, **variables):
    """Resumes the sweep if it is not finished, and delivers the rest of its records."""
    if get_only_sweep(workdir).status != "FINISHED":
        resume_sweep(workdir, **variables)
    run_expfw(workdir, "runs", "sync", check=True, **variables)


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
