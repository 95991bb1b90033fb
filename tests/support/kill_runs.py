"""Starts, kills and resumes real runs, and compares them with an uninterrupted run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow

from expfw.api import checkpoints
from expfw.runs import exact_comparison
from expfw.tracking import journal, run_index

PLUGIN = str(Path(__file__).parent / "plugins" / "killer.py")
RUN_OVERRIDES = (
    "dataset=digits",
    "model=cnn",
    "model.filters=[4,8]",
    "model.dropout=0.4",
    "callback=[checkpoint,early_stopping,augmentation,killer]",
    "callback.checkpoint.every.steps=17",
    "callback.augmentation.shift=1",
    "callback.augmentation.copies=1",
    "callback.early_stopping.patience=2",
    "callback.early_stopping.min_delta=0.05",
    "model.optimizer.learning_rate=0.02",
    "train.epochs=12",
    "train.log_every=3",
    "train.test_on=best",
    "train.average=0.9",
    "seed=5",
)


def run_expfw(workdir, *arguments, kill_moment=""):
    """Runs the expfw command; returns the completed process."""
    environment = {**os.environ, "EXPFW_KILL": kill_moment}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "expfw", "-p", PLUGIN, *arguments]
    return subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, timeout=300)


def get_only_run(workdir):
    """Returns the only run in the runs folder."""
    (entry,) = run_index.list_runs(workdir / "runs")
    return entry


def run_uninterrupted(workdir, *overrides):
    """Runs without kills; returns the entry of the run."""
    done = run_expfw(workdir, "run", *RUN_OVERRIDES, *overrides)
    assert done.returncode == 0, done.stderr
    return get_only_run(workdir)


def run_with_kills(workdir, moments, *overrides):
    """Runs, kills at each moment in turn and resumes; returns the entry and the number of kills."""
    done = run_expfw(workdir, "run", *RUN_OVERRIDES, *overrides, kill_moment=moments[0])
    kill_count = int(done.returncode == -9)
    for moment in [*moments[1:], ""]:
        entry = get_only_run(workdir)
        if entry.status == "FINISHED":
            break
        assert entry.status == "INTERRUPTED", (entry.status, done.stderr)
        done = run_expfw(workdir, "runs", "resume", entry.id, kill_moment=moment)
        kill_count += done.returncode == -9
    assert done.returncode == 0, done.stderr
    return get_only_run(workdir), kill_count


def find_differences(reference, entry):
    """Returns the differences from the reference: metrics, weights, decisions, state, MLflow's history."""
    differences = list(exact_comparison.compare_runs(reference.folder, entry.folder).differences)
    expected, actual = (
        next(checkpoints.read_usable_checkpoints(e.folder, differences.append)) for e in (reference, entry)
    )
    differences += exact_comparison.compare_arrays(expected.model.arrays, actual.model.arrays)
    for name in ("step", "epoch", "best_step", "best_value", "stop_reason", "metrics"):
        if expected.run[name] != actual.run[name]:
            differences.append(f"{name}: {expected.run[name]} and {actual.run[name]}")
    if dict(expected.plugins) != dict(actual.plugins):
        differences.append(f"callbacks: {expected.plugins} and {actual.plugins}")
    messages = [
        [r["text"] for r in journal.read_records(e.folder / journal.NAME)[0] if r["kind"] == "message"]
        for e in (reference, entry)
    ]
    stop_messages = [[text for text in texts if text.startswith("stop:")] for texts in messages]
    if stop_messages[0] != stop_messages[1]:
        differences.append(f"stop reason: {stop_messages}")
    differences += [text for text in messages[1] if "after resuming" in text]
    differences += exact_comparison.compare_points(*(read_mlflow_points(e) for e in (reference, entry)))
    return differences


def read_mlflow_points(entry):
    """Returns the points of a run in MLflow, including duplicates."""
    runs_dir = entry.folder.parents[1]
    client = mlflow.MlflowClient(f"sqlite:///{runs_dir}/mlflow.db")
    experiment = client.get_experiment_by_name("expfw")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`expfw.run_id` = '{entry.id}'")
    assert (run.info.status, run.data.tags["expfw.status"]) == ("FINISHED", "FINISHED")
    return exact_comparison.group_points(
        (metric.step, {name: metric.value})
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    )
