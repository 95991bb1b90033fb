"""Early stopping, checkpoints and TensorBoard."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support.equal_metrics import read_metrics
from support.tensorboard_events import read_scalars

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


def checkpoints(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_checkpoints_keep_the_last_ones_and_the_best(train):
    result = train(*DIGITS, "train.epochs=6", "callback.checkpoint.keep=2", "model.optimizer.learning_rate=0.9")
    steps = checkpoints(result.folder)
    assert steps[-2:] == [105, 126]
    assert result.best_step in steps
    assert len(steps) <= 3


def test_checkpoints_are_saved_at_an_interval_in_steps(train):
    options = ("callback.checkpoint.every.steps=8", "callback.checkpoint.keep=100", "train.epochs=2")
    result = train(*DIGITS, *options)
    assert {8, 16, 24, 32, 40} <= set(checkpoints(result.folder))


def test_checkpoints_do_not_slow_down_epochs_of_one_step(train):
    result = train("dataset=line", "model=ols", "train.epochs=300", "callback.checkpoint.keep=1000")
    assert len(checkpoints(result.folder)) <= 2 + result.seconds
    assert checkpoints(result.folder)[-1] == 300


def test_a_checkpoint_contains_the_complete_state(train):
    """Restored into a new model, it continues bit-identically to the uninterrupted run."""
    import keras
    import tensorflow as tf

    from expfw.api.run_config import Train
    from expfw_backends.engine.batches import make_permutation
    from expfw_backends.engine.model_arrays import assign_arrays, collect_variables
    from expfw_backends.engine.trainable import TrainableModel
    from expfw_datasets.digits import Digits
    from expfw_models.mlp_keras import MlpKeras

    options = (*DIGITS, "model.dropout=0.4", "train.epochs=2", "train.log_every=1", "seed=3")
    result = train(*options, "callback.checkpoint.every.steps=10", "callback.checkpoint.keep=9")
    losses = read_metrics(result.folder)["train/loss"]
    data = Digits(Digits.Config(), "digits").load(3)
    config = MlpKeras.Config(dropout=0.4, optimizer=expfw.Optimizer("sgd", 0.1, momentum=0.9))
    keras.utils.set_random_seed(99)
    model = MlpKeras(config, "mlp_keras").build(data.spec)
    strategy = tf.distribute.get_strategy()
    trainable = TrainableModel(strategy, model, data, Train())
    checkpoint = expfw.read_checkpoint(result.folder / "checkpoints" / "000000010")
    assign_arrays(collect_variables(model, training=True), checkpoint.model.arrays)
    order = make_permutation(3, 0, len(data.train))
    resumed_losses = trainable.train_loop.run(data.train, order, 10, 11).losses
    assert list(resumed_losses) == [np.float32(losses[step]) for step in range(10, 21)]


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


def test_tensorboard_contains_every_point_of_the_journal(train):
    result = train(*DIGITS, "+callback=tensorboard", "train.epochs=2", "train.log_every=4")
    expected = {name: pytest.approx(values, rel=1e-6) for name, values in read_metrics(result.folder).items()}
    assert "train/loss" in expected
    folder = result.folder / "tensorboard"
    written = {split: read_scalars(folder, split) for split in ("train", "val", "test")}
    assert {f"{split}/{tag}": points for split, tags in written.items() for tag, points in tags.items()} == expected
