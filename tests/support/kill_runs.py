"""Starts real runs, kills them, lets them go on until they are done, and compares them with one that was left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow

from expfw.api import checkpoints
from expfw.runs import comparison
from expfw.tracking import journal, run_index

PLUGIN = str(Path(__file__).parent / "plugins" / "killer.py")
RUN = (
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


def command(workdir, *arguments, kill=""):
    """Runs expfw as a user would, in a process of its own; returns how it ended."""
    environment = {**os.environ, "EXPFW_KILL": kill}
    environment.pop("MLFLOW_TRACKING_URI", None)
    call = [sys.executable, "-m", "expfw", "-p", PLUGIN, *arguments]
    return subprocess.run(call, cwd=workdir, env=environment, capture_output=True, text=True, timeout=300)


def the_run(workdir):
    """The only run in the runs folder."""
    (entry,) = run_index.runs(workdir / "runs")
    return entry


def uninterrupted(workdir, *overrides):
    """A run that nobody disturbs; its entry."""
    done = command(workdir, "run", *RUN, *overrides)
    assert done.returncode == 0, done.stderr
    return the_run(workdir)


def killed(workdir, moments, *overrides):
    """A run that is killed at each of these moments in turn, and goes on; its entry, and how often it died."""
    done = command(workdir, "run", *RUN, *overrides, kill=moments[0])
    died = int(done.returncode == -9)
    for moment in [*moments[1:], ""]:
        entry = the_run(workdir)
        if entry.status == "FINISHED":
            break
        assert entry.status == "INTERRUPTED", (entry.status, done.stderr)
        done = command(workdir, "runs", "resume", entry.id, kill=moment)
        died += done.returncode == -9
    assert done.returncode == 0, done.stderr
    return the_run(workdir), died


def differences(reference, entry):
    """In what a run differs from the one that was left alone: metrics, weights, decisions, state, MLflow's history."""
    found = list(comparison.compare(reference.folder, entry.folder).differences)
    one, other = (next(checkpoints.good(e.folder, found.append)) for e in (reference, entry))
    found += comparison.other_arrays(one.model.arrays, other.model.arrays)
    for name in ("step", "epoch", "best_step", "best_value", "stop_reason", "metrics"):
        if one.run[name] != other.run[name]:
            found.append(f"{name}: {one.run[name]} and {other.run[name]}")
    if dict(one.plugins) != dict(other.plugins):
        found.append(f"callbacks: {one.plugins} and {other.plugins}")
    messages = [
        [r["text"] for r in journal.read(e.folder / journal.NAME)[0] if r["kind"] == "message"]
        for e in (reference, entry)
    ]
    stops = [[text for text in texts if text.startswith("stop:")] for texts in messages]
    if stops[0] != stops[1]:
        found.append(f"why it stopped: {stops}")
    found += [text for text in messages[1] if "after going on" in text]
    found += comparison.other_points(*(mlflow_points(e) for e in (reference, entry)))
    return found


def mlflow_points(entry):
    """What MLflow has of a run, each point as often as it is there."""
    runs_dir = entry.folder.parents[1]
    client = mlflow.MlflowClient(f"sqlite:///{runs_dir}/mlflow.db")
    experiment = client.get_experiment_by_name("expfw")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`expfw.run_id` = '{entry.id}'")
    assert (run.info.status, run.data.tags["expfw.status"]) == ("FINISHED", "FINISHED")
    return comparison.points_of(
        (metric.step, {name: metric.value})
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    )
