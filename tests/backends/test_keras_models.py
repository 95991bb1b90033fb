"""Keras models in the engine: several inputs, sample weights, custom steps, Keras callbacks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.equal_metrics import DEVICE_OVERRIDES, ENGINE_PLUGINS, assert_equal_metrics, read_metrics

import expfw
from expfw.config.compose import compose
from expfw.config.run_plugins import make_plugins
from expfw.plugins.catalogue import get_catalogue
from expfw.tracking import journal
from expfw_backends.engine.batches import make_permutation

DIGITS = ("dataset=digits", "model=mlp_keras")


def make_engine_plugins(options):
    """Returns the dataset and the model of a run with the plugins of ENGINE_PLUGINS."""
    catalogue = get_catalogue((ENGINE_PLUGINS,))
    return make_plugins(compose(list(options), catalogue), catalogue, kinds=("dataset", "model"))


@pytest.mark.parametrize(
    "options",
    [(*DIGITS, "model.optimizer.learning_rate=0.05"), ("dataset=pairs", "model=two_heads")],
    ids=["digits", "several inputs, outputs and weights"],
)
def test_losses_evaluations_and_predictions_equal_keras(train, options):
    options = (*options, "train.epochs=3", "train.log_every=1", "train.batch_size=32", "seed=7")
    result = train(*options, files=[ENGINE_PLUGINS])
    dataset, model_plugin = make_engine_plugins(options)
    data = dataset.load(7).take(slice(None))
    keras.utils.set_random_seed(7)
    model = model_plugin.build(data.spec)
    losses = []
    for epoch in range(3):
        order = make_permutation(7, epoch, len(data.train))
        for start in range(0, len(order), 32):
            part = data.train.take(order[start : start + 32])
            model.reset_metrics()
            losses.append(model.train_on_batch(part.x, part.y, part.weight, return_dict=True)["loss"])
    logged = read_metrics(result.folder)["train/loss"]
    assert list(logged) == list(range(len(losses)))
    np.testing.assert_allclose(list(logged.values()), losses, atol=1e-5)
    for name, split in {"val": data.validation, "test": data.test}.items():
        if split is not None:
            expected = model.evaluate(split.x, split.y, 32, 0, split.weight, return_dict=True)
            actual = {metric: result.metrics[f"{name}/{metric}"] for metric in expected}
            assert actual == pytest.approx(expected, abs=1e-5)
    x = data.validation.x
    raw = keras.tree.map_structure(lambda scaling, part: scaling.inverse(part), data.spec.preprocessing, x)
    outputs = expfw.load_model(result.folder / "model", trust=True).predict(raw), model.predict(x, verbose=0)
    keras.tree.map_structure(lambda *pair: np.testing.assert_allclose(*pair, atol=1e-5), *outputs)


def test_metrics_that_are_not_means_accumulate_over_the_epoch(train):
    options = ("dataset=odd", "model=small", "train.epochs=1", "train.batch_size=33")
    result = train(*options, files=[ENGINE_PLUGINS])
    validation = make_engine_plugins(options)[0].load(0).validation
    model = expfw.load_model(result.folder / "model", trust=True).model
    expected = model.evaluate(validation.x, validation.y, 33, verbose=0, return_dict=True)
    for name in ("iou", "weighted", "accuracy"):
        assert result.metrics[f"val/{name}"] == pytest.approx(expected[name], abs=1e-6)
    assert {"train/epoch_iou", "train/iou"} <= result.metrics.keys()


def test_a_custom_train_step(train):
    options = ("dataset=odd", "model=own_step", "train.epochs=10", "train.log_every=1", "train.batch_size=20")
    result = train(*options, files=[ENGINE_PLUGINS])
    assert result.metrics["train/mine"] == 0.5
    assert "val/accuracy" in result.metrics  # evaluated by Keras' own test_step
    losses = list(read_metrics(result.folder)["train/loss"].values())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    with pytest.raises(expfw.ConfigError, match=r"train.clip_norm=1.0 needs gradients"):
        train(*options, "train.clip_norm=1.0", files=[ENGINE_PLUGINS])
    even = train(*options, *DEVICE_OVERRIDES["mirrored-2"], "train.limit_batches=1", files=[ENGINE_PLUGINS])
    assert np.isfinite(even.metrics["train/loss"])


class Recorder(keras.callbacks.Callback):
    """Records the calls of a Keras callback."""

    def on_train_begin(self, logs=None):
        self.calls = [("train", self.params["epochs"], self.params["steps"])]

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("begin", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("end", epoch, sorted(logs)))


class OfBatches(Recorder):
    """Also records each batch; stops in the second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append((batch, sorted(logs)))
        if self.calls.count((1, sorted(logs))) == 2:
            self.model.stop_training = True


class CallbackProvider(expfw.Callback):
    """A plugin that provides Keras callbacks."""

    def __init__(self, *callbacks):
        super().__init__(None, "provides")
        self.callbacks = callbacks

    @expfw.hookimpl
    def expfw_keras_callbacks(self, run):
        return list(self.callbacks)


@pytest.mark.parametrize("steps", [42, 30])
def test_keras_callbacks_are_called_as_in_keras_and_end_an_incomplete_epoch(train, steps):
    recorder = Recorder()
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(stop.model, "stop_training", epoch))
    result = train(*DIGITS, f"train.steps={steps}", observers=[CallbackProvider(recorder, stop)])
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert recorder.calls == [("train", 2, 21), ("begin", 0), ("end", 0, names), ("begin", 1), ("end", 1, names)]
    assert (result.steps, result.stop_reason is None) == (steps, steps == 30)  # not from an incomplete epoch


def test_a_keras_callback_changes_the_learning_rate_and_stops_the_run(train):
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=100, cooldown=0)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=3, min_delta=100)
    result = train(
        *DIGITS, "train.epochs=50", "model.optimizer.learning_rate=0.1",
        observers=[CallbackProvider(plateau, stopping)],
    )  # fmt: skip
    assert result.epochs == 4
    assert list(read_metrics(result.folder)["train/learning_rate"].values()) == pytest.approx([0.05, 0.025])


def test_batch_callbacks_get_one_step_per_call_and_a_message(train):
    recorder, batches = OfBatches(), []
    function = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    result = train(*DIGITS, "train.epochs=9", observers=[CallbackProvider(recorder, function)])
    assert batches == [*range(21), 0, 1]
    assert [call for call in recorder.calls if call[0] == 1] == 2 * [(1, ["accuracy", "loss"])]
    assert result.steps == 21 + 2
    assert (
        "OfBatches, LambdaCallback is called for each batch: one step per call"
        in (result.folder / journal.NAME).read_text()
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("{name: exponential, steps: 21, rate: 0.5}", [0.05, 0.025]),
        ("{name: inverse_time, steps: 21, rate: 1.0}", [0.05, 0.1 / 3]),
        ("{name: cosine, steps: 42}", [0.05, 0.0]),
    ],
)
def test_learning_rate_schedules(train, schedule, expected):
    options = (*DIGITS, "train.epochs=2", "model.optimizer.learning_rate=0.1")
    result = train(*options, f"model.optimizer.schedule={schedule}")
    rates = read_metrics(result.folder)["train/learning_rate"]
    assert list(rates) == [21, 42]
    assert list(rates.values()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_averaged_weights_are_evaluated_and_saved(train):
    options = (*DIGITS, "train.epochs=1", "train.evaluate_every.steps=7")
    plain, averaged = train(*options), train(*options, "train.average=0.5")
    assert plain.metrics["train/epoch_loss"] == averaged.metrics["train/epoch_loss"]  # the training is the same
    assert plain.metrics["val/loss"] != averaged.metrics["val/loss"]
    keras.utils.set_random_seed(0)
    dataset, model_plugin = make_engine_plugins(DIGITS)
    expected = [np.asarray(v) for v in model_plugin.build(dataset.load(seed=7).spec).trainable_variables]
    for step in range(1, 22):  # the definition, on the weights after each step
        folder = train(*DIGITS, f"train.steps={step}").folder / "model"
        weights = [np.asarray(v) for v in expfw.load_model(folder).model.trainable_variables]
        expected = [0.5 * average + 0.5 * weight for average, weight in zip(expected, weights, strict=True)]
    saved = expfw.load_model(averaged.folder / "model").model.trainable_variables
    for value, want in zip(saved, expected, strict=True):
        np.testing.assert_allclose(np.asarray(value), want, atol=1e-6)


@pytest.mark.slow
def test_begin_from_a_checkpoint(train):
    options = (*DIGITS, "model.dropout=0.3", "train.log_every=1", "train.average=0.9")
    whole = train(*options, "train.epochs=4", "callback.checkpoint.keep=9")
    for step in (42, 63):
        part = train(*options, "train.epochs=4", f"train.begin_from={whole.folder}/checkpoints/{step:09d}")
        assert part.steps == 84
        actual, expected = read_metrics(part.folder), read_metrics(whole.folder)
        assert actual["train/loss"] == {s: value for s, value in expected["train/loss"].items() if s >= step}
        for name in ("val/loss", "train/epoch_loss", "test/loss"):
            assert actual[name] == {s: value for s, value in expected[name].items() if s > step}


@pytest.mark.parametrize(
    ("model", "match"),
    [
        ("keras.Sequential([keras.layers.Input((8, 8, 1))])", r"the model is not compiled; call model\.compile"),
        ("tf.Module()", r"optimizer is None; expected a Keras optimizer, or a train_step"),
    ],
)
def test_a_model_that_cannot_be_trained_is_rejected(train, tmp_path, model, match):
    plugin = tmp_path / "broken.py"
    imports = "import expfw\n\nclass Broken(expfw.Model):\n    def build(self, data):\n        import keras"
    plugin.write_text(f"{imports}\n        import tensorflow as tf\n        return {model}\n")
    with pytest.raises(expfw.ConfigError, match=match):
        train("dataset=digits", "model=broken", files=[str(plugin)])


def test_class_weights_of_unknown_classes_are_rejected(train):
    with pytest.raises(expfw.ConfigError, match=r"unknown class '11'\. Available: 0, 1, 2"):
        train(*DIGITS, "+train.class_weight={11: 2.0}")
    with pytest.raises(expfw.ConfigError, match="needs a single target with classes"):
        train("dataset=line", "model=ols", "+train.class_weight={1: 2.0}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "devices"),
    [
        (("dataset=pairs", "model=two_heads"), ("mirrored-2", "streamed")),
        (("dataset=odd", "model=words"), ("mirrored-2", "in-parts")),
        (("dataset=odd", "model=words", "train.clip_norm=0.05"), ("mirrored-2", "in-parts")),
        (("dataset=odd", "model=words", "train.clip_value=0.01"), ("mirrored-2", "in-parts")),
    ],
)
def test_several_inputs_and_sparse_gradients_do_not_depend_on_devices(train, model, devices):
    options = (*model, "train.epochs=5", "train.batch_size=33", "train.log_every=1")
    expected = read_metrics(train(*options, files=[ENGINE_PLUGINS]).folder)
    for name in devices:
        assert_equal_metrics(train(*options, *DEVICE_OVERRIDES[name], files=[ENGINE_PLUGINS]).folder, expected)


def test_loss_scaling_in_16_bits(train, monkeypatch):
    """The backend rejects float16 on a CPU, because it is slow; this test compares the results only."""
    monkeypatch.setattr("expfw_backends.tensorflow_backend.TensorFlowBackend.devices", lambda self, run: None)
    monkeypatch.setattr("expfw_backends.tensorflow_backend.check_precision", lambda name: None)
    options = (*DIGITS, "train.epochs=3", "model.optimizer.learning_rate=0.05")
    scaled = train(*options, "backend.precision=mixed_float16", "train.clip_norm=1.0")
    plain = train(*options, "train.clip_norm=1.0")
    assert scaled.metrics["train/epoch_loss"] == pytest.approx(plain.metrics["train/epoch_loss"], rel=0.02)
    assert scaled.metrics["train/epoch_loss"] != plain.metrics["train/epoch_loss"]


def test_a_model_with_a_fixed_batch_size_and_a_metric_with_several_values(train):
    options = ("dataset=odd", "dataset.samples=40", "model=particular", "train.batch_size=20", "train.limit_batches=1")
    assert train(*options, files=[ENGINE_PLUGINS]).status == "FINISHED"
    with pytest.raises(expfw.ConfigError, match=r"metric 'several' returns shape \(3,\); expected one number"):
        train(*options, "model.vector=true", files=[ENGINE_PLUGINS])


def test_keras_moving_average_is_used_at_the_end_as_in_fit(train):
    options = (*DIGITS, "train.epochs=2")
    averaged = train(*options, "+model.optimizer.options.use_ema=true", "+model.optimizer.options.ema_momentum=0.9")
    plain = train(*options)
    assert averaged.metrics["val/loss"] == plain.metrics["val/loss"]  # as in fit, only the end is averaged
    assert averaged.metrics["test/loss"] != plain.metrics["test/loss"]


def test_a_model_checkpoint_per_epoch_does_not_need_every_step(train, tmp_path):
    callback = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), save_best_only=True)
    result = train(*DIGITS, "train.steps=50", observers=[CallbackProvider(callback)])
    assert (tmp_path / "best.keras").exists()
    assert "one step per call" not in (result.folder / journal.NAME).read_text()


@pytest.mark.parametrize(
    ("options", "callback", "match"),
    [
        (("dataset=line", "model=ols"), Recorder(), r"need a Keras model, but this model is a tf\.Module"),
        (DIGITS, "x", "a str as a Keras callback; expected a"),
        (DIGITS, keras.callbacks.BackupAndRestore("x.weights.h5"), r"BackupAndRestore.* train\.begin_from"),
    ],
)
def test_invalid_keras_callbacks_are_rejected(train, options, callback, match):
    with pytest.raises(expfw.ConfigError, match=match):
        train(*options, observers=[CallbackProvider(callback)])


def test_a_checkpoint_of_a_different_training_is_rejected(train):
    options = (*DIGITS, "train.epochs=2")
    last = f"train.begin_from={train(*options).folder}/checkpoints/000000042"
    for option, problem in (
        ("train.batch_size=32", "has steps_per_epoch=21, this training has 41"),
        ("seed=1", "has seed=0, this training has 1"),
        ("seed=0", "is at step 42 and this training ends at step 42; increase train"),
        ("train.begin_from=nowhere", "is not a checkpoint; expected a folder like"),
    ):
        with pytest.raises(expfw.ConfigError, match=problem):
            train(*options, last, option)


@pytest.mark.slow
def test_accumulation_with_large_layers_and_much_data(train):
    """A regression test: TensorFlow's graph optimizer put temporary variables into the loop, which then failed."""
    data = ("dataset=noise", "dataset.shape=[28,28,1]", "dataset.classes=10", "dataset.samples=55000")
    result = train(*data, "model=cnn", "train.batch_size=200", "train.accumulate=2", "train.steps=40", "callback=[]",
                   "model.dropout=0")  # fmt: skip
    assert result.steps == 40
