"""Early stopping and checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import expfw
from expfw.tracking.recorded_run import read_run
from expfw_callbacks.early_stopping import EarlyStopping

DIGITS = ("dataset=digits", "model=mlp_keras", "model.optimizer.learning_rate=0.1")


def feed(values, metric="val/loss", **options):
    """Returns the index of the value that stops the run, or None."""
    callback, stop_reasons = EarlyStopping(EarlyStopping.Config(metric=metric, **options), "early_stopping"), []
    for number, value in enumerate(values):
        callback.expfw_evaluated(SimpleNamespace(metrics={metric: value}, request_stop=stop_reasons.append))
        if stop_reasons:
            return number
    return None


def test_early_stopping_waits_as_long_as_its_patience():
    assert feed([5, 4, 4.5, 4.6, 3], patience=2) == 3
    assert feed([5, 4, 4.5, 4.6, 3], patience=3) is None
    assert feed([1, 2, 1.5], metric="a", patience=1, mode="max") == 2
    assert feed([5, 4.7], patience=1, min_delta=0.5) == 1


def test_the_error_for_an_unknown_metric_lists_the_available_metrics(train):
    options = ("callback=[early_stopping]", "callback.early_stopping.metric=val/acuracy", "train.epochs=2")
    result = train(*DIGITS, *options)
    assert result.status == "FINISHED"
    (message,) = read_run(result.folder).select("message")
    assert "unknown metric 'val/acuracy'" in message["text"]
    assert "val/accuracy" in message["text"]


def test_early_stopping_stops_a_run_and_logs_the_reason(train):
    result = train(*DIGITS, "callback=[early_stopping]", "callback.early_stopping.patience=2", "train.epochs=300")
    assert result.epochs < 300
    assert result.status == "FINISHED"
    assert "val/loss has not improved" in result.stop_reason


def test_checkpoints_keep_the_last_ones_and_the_best(train):
    result = train(*DIGITS, "train.epochs=6", "callback.checkpoint.keep=2", "model.optimizer.learning_rate=0.9")
    steps = expfw.checkpoint_steps(result.folder)
    assert steps[-2:] == [105, 126]
    assert result.best_step in steps
    assert len(steps) <= 3


def test_checkpoints_at_an_interval_in_steps_are_saved_at_no_other_step(train):
    options = ("callback.checkpoint.every.steps=8", "callback.checkpoint.keep=100", "train.epochs=2")
    result = train(*DIGITS, *options)
    assert expfw.checkpoint_steps(result.folder) == [8, 16, 24, 32, 40, 42]  # not 21, the end of an epoch


def test_checkpoints_do_not_slow_down_epochs_of_one_step(train):
    result = train("dataset=line", "model=ols", "train.epochs=300", "callback.checkpoint.keep=1000")
    assert len(expfw.checkpoint_steps(result.folder)) <= 2 + result.seconds
    assert expfw.checkpoint_steps(result.folder)[-1] == 300


def test_arrays_of_another_model_are_rejected(train):
    from expfw.api.model_state import read_arrays
    from expfw_backends.engine.model_arrays import assign_arrays, collect_variables

    small = train(*DIGITS, "model.units=8", "train.epochs=1")
    large = train(*DIGITS, "model.units=9", "train.epochs=1")
    variables = collect_variables(expfw.load_model(large.folder / "model").model, training=False)
    weights = small.folder / "model" / "weights.safetensors"
    with pytest.raises(expfw.JournalError, match=r"another model: weights/000 is \(64, 8\), the model has \(64, 9\)"):
        assign_arrays(variables, read_arrays(weights))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(expfw.JournalError, match=r"cannot read .* as safetensors"):
        expfw.load_model(small.folder / "model")
