"""Starts, kills and resumes real runs, and compares them with an uninterrupted run."""

from __future__ import annotations

from pathlib import Path

from support.outages import find_mlflow_differences
from support.processes import run_expfw

from expfw.api import checkpoints
from expfw.runs import exact_comparison
from expfw.tracking import run_index

PLUGIN = str(Path(__file__).parent / "plugins" / "killer.py")
RUN_OVERRIDES = (
    "dataset=digits", "model=cnn", "model.filters=[4,8]", "model.dropout=0.4", "model.optimizer.learning_rate=0.02",
    "callback=[checkpoint,early_stopping,augmentation,killer]", "callback.checkpoint.every.steps=17",
    "callback.augmentation.shift=1", "callback.augmentation.copies=1",
    "callback.early_stopping.patience=2", "callback.early_stopping.min_delta=0.05",
    "train.epochs=12", "train.log_every=3", "train.test_on=best", "train.average=0.9", "seed=5",
)  # fmt: skip
STATE = ("step", "epoch", "best_step", "best_value", "stop_reason", "metrics")


def run_uninterrupted(workdir):
    """Runs without kills; returns the entry of the run."""
    return run_with_kills(workdir, [""])[0]


def run_with_kills(workdir, moments):
    """Runs, kills at each moment in turn and resumes; returns the entry and the number of kills."""
    done = run_expfw(workdir, "-p", PLUGIN, "run", *RUN_OVERRIDES, EXPFW_KILL=moments[0])
    kill_count = int(done.returncode == -9)
    for moment in [*moments[1:], ""]:
        (entry,) = run_index.list_runs(workdir / "runs")
        if entry.status == "FINISHED":
            break
        assert entry.status == "INTERRUPTED", (entry.status, done.stderr)
        done = run_expfw(workdir, "-p", PLUGIN, "runs", "resume", entry.id, EXPFW_KILL=moment)
        kill_count += done.returncode == -9
    assert done.returncode == 0, done.stderr
    return run_index.list_runs(workdir / "runs")[0], kill_count


def find_differences(reference, entry):
    """Returns the differences from the reference: metrics, weights, decisions, state, MLflow's history."""
    differences = list(exact_comparison.compare_runs(reference.folder, entry.folder).differences)
    expected, actual = (
        next(checkpoints.read_usable_checkpoints(e.folder, differences.append)) for e in (reference, entry)
    )
    differences += exact_comparison.compare_arrays(expected.model.arrays, actual.model.arrays)
    messages, resumed_messages = ([record["text"] for record in e.select("message")] for e in (reference, entry))
    pairs = {name: (expected.run[name], actual.run[name]) for name in STATE}
    pairs["callbacks"] = dict(expected.plugins), dict(actual.plugins)
    pairs["stop reason"] = tuple(
        [text for text in texts if text.startswith("stop:")] for texts in (messages, resumed_messages)
    )
    differences += [f"{name}: {one} and {other}" for name, (one, other) in pairs.items() if one != other]
    differences += [text for text in resumed_messages if "after resuming" in text]
    return [*differences, *find_mlflow_differences(f"sqlite:///{entry.folder.parents[1]}/mlflow.db", entry)]
