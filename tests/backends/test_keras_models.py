"""Keras models in the engine: several inputs, sample weights, custom steps, Keras callbacks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from support.equal_metrics import DEVICE_OVERRIDES, ENGINE_PLUGINS, assert_equal_metrics, read_metrics

import expfw
from expfw.tracking import journal
from expfw_backends.engine.sample_order import make_permutation


def test_several_inputs_outputs_and_weights_equal_keras(train):
    options = ("dataset=pairs", "model=two_heads", "train.epochs=3", "train.batch_size=32", "train.log_every=1")
    result = train(*options, files=[ENGINE_PLUGINS])
    saved = expfw.load_model(result.folder / "model")

    from expfw.config.compose import compose
    from expfw.config.run_plugins import make_plugins
    from expfw.plugins.catalogue import get_catalogue

    plugins = make_plugins(
        compose(list(options), get_catalogue((ENGINE_PLUGINS,))),
        get_catalogue((ENGINE_PLUGINS,)),
        kinds=("dataset", "model"),
    )
    data = plugins[0].load(0)
    keras.utils.set_random_seed(0)
    model = plugins[1].build(data.spec)
    losses = []
    for epoch in range(3):
        order = make_permutation(0, epoch, 100)
        for start in range(0, 100, 32):
            part = data.train.take(order[start : start + 32])
            model.reset_metrics()
            losses.append(model.train_on_batch(part.x, part.y, part.weight, return_dict=True)["loss"])
    np.testing.assert_allclose(list(read_metrics(result.folder)["train/loss"].values()), losses, atol=1e-5)
    held_out = data.validation
    expected = model.evaluate(held_out.x, held_out.y, 32, 0, held_out.weight, return_dict=True)
    assert {f"val/{name}" for name in expected} <= result.metrics.keys()
    for name, value in expected.items():
        assert result.metrics[f"val/{name}"] == pytest.approx(value, abs=1e-5), name

    raw = {"left": held_out.x["left"], "right": held_out.x["right"] / 2}  # the preprocessing of `right` doubles
    predicted, expected_outputs = saved.predict(raw), model.predict(held_out.x, verbose=0)
    assert predicted.keys() == expected_outputs.keys()
    for name, value in expected_outputs.items():
        np.testing.assert_allclose(predicted[name], value, atol=1e-5)


@pytest.mark.slow
def test_several_inputs_and_outputs_on_replicas(train):
    options = ("dataset=pairs", "model=two_heads", "train.epochs=3", "train.batch_size=33", "train.log_every=1")
    expected = read_metrics(train(*options, files=[ENGINE_PLUGINS]).folder)
    for devices in ("mirrored-2", "streamed"):
        assert_equal_metrics(train(*options, *DEVICE_OVERRIDES[devices], files=[ENGINE_PLUGINS]).folder, expected)


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


def test_the_state_of_batch_norm_is_trained_and_used(train):
    """Moving averages of batch normalisation change in training and are used in evaluation."""
    options = ("dataset=odd", "model=small", "model.normalize=true", "train.batch_size=25", "train.epochs=4")
    result = train(*options, files=[ENGINE_PLUGINS])
    saved = expfw.load_model(result.folder / "model")
    (normalization,) = [layer for layer in saved.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not np.allclose(normalization.moving_mean, 0)
    from expfw.config.compose import compose
    from expfw.config.run_plugins import make_plugins
    from expfw.plugins.catalogue import get_catalogue

    (dataset,) = make_plugins(
        compose(list(options), get_catalogue((ENGINE_PLUGINS,))), get_catalogue((ENGINE_PLUGINS,)), kinds=("dataset",)
    )
    test = dataset.load(0).test
    inference = np.argmax(saved.model(test.x, training=False), axis=1) == test.y
    assert result.metrics["test/accuracy"] == pytest.approx(inference.mean(), abs=1e-6)
    # a single sample is correct in inference mode only; training mode would normalise it by itself
    np.testing.assert_allclose(saved.predict(test.x[:1]), saved.predict(test.x[:5])[:1], atol=1e-5)


class Recorder(keras.callbacks.Callback):
    """Records the calls of a Keras callback."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append(("train", self.params["epochs"], self.params["steps"]))

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

    kind = "callback"

    def __init__(self, *callbacks):
        super().__init__(None, "provides")
        self.callbacks = callbacks

    @expfw.hookimpl
    def expfw_keras_callbacks(self, run):
        return list(self.callbacks)


def test_keras_callbacks_are_called_as_in_keras(train):
    recorder = Recorder()
    result = train("dataset=digits", "model=mlp_keras", "train.epochs=2", observers=[CallbackProvider(recorder)])
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert recorder.calls == [
        ("train", 2, 21),
        ("begin", 0),
        ("end", 0, names),
        ("begin", 1),
        ("end", 1, names),
    ]
    assert result.steps == 42


def test_a_keras_callback_changes_the_learning_rate_and_stops_the_run(train):
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=100, cooldown=0)
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=3, min_delta=100)
    result = train(
        "dataset=digits", "model=mlp_keras", "train.epochs=50", "model.optimizer.learning_rate=0.1",
        observers=[CallbackProvider(plateau, stopping)],
    )  # fmt: skip
    assert result.epochs == 4
    assert list(read_metrics(result.folder)["train/learning_rate"].values()) == pytest.approx([0.05, 0.025])


def test_batch_callbacks_get_one_step_per_call_and_a_message(train):
    recorder = OfBatches()
    result = train("dataset=digits", "model=mlp_keras", "train.epochs=9", observers=[CallbackProvider(recorder)])
    assert [call for call in recorder.calls if call[0] == 1] == 2 * [(1, ["accuracy", "loss"])]
    assert result.steps == 21 + 2
    texts = [r.get("text", "") for r in journal.read_records(result.folder / journal.NAME)[0]]
    assert any("OfBatches is called for each batch: one step per call" in text for text in texts)


def test_keras_callbacks_need_a_keras_model(train):
    with pytest.raises(expfw.ConfigError, match=r"need a Keras model, but this model is a tf\.Module"):
        train("dataset=line", "model=ols", observers=[CallbackProvider(Recorder())])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("{name: exponential, steps: 21, rate: 0.5}", [0.05, 0.025]),
        ("{name: inverse_time, steps: 21, rate: 1.0}", [0.05, 0.1 / 3]),
        ("{name: cosine, steps: 42}", [0.05, 0.0]),
    ],
)
def test_learning_rate_schedules(train, schedule, expected):
    options = ("dataset=digits", "model=mlp_keras", "train.epochs=2", "model.optimizer.learning_rate=0.1")
    result = train(*options, f"model.optimizer.schedule={schedule}")
    rates = read_metrics(result.folder)["train/learning_rate"]
    assert list(rates) == [21, 42]
    assert list(rates.values()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_averaged_weights_are_evaluated_and_saved(train):
    options = ("dataset=digits", "model=mlp_keras", "train.epochs=1", "train.evaluate_every.steps=7")
    plain, averaged = train(*options), train(*options, "train.average=0.5")
    assert plain.metrics["train/epoch_loss"] == averaged.metrics["train/epoch_loss"]  # the training is the same
    assert plain.metrics["val/loss"] != averaged.metrics["val/loss"]
    expected = None
    for step in range(22):  # the definition, on the weights after each step
        weights = train(*options[:2], f"train.steps={step}").folder if step else None
        if weights is None:
            continue
        now = [np.asarray(v) for v in expfw.load_model(weights / "model").model.trainable_variables]
        if expected is None:
            keras.utils.set_random_seed(0)
            from expfw_datasets.digits import Digits
            from expfw_models.mlp_keras import MlpKeras

            spec = Digits(Digits.Config(), "digits").load(seed=7).spec
            initial = MlpKeras(MlpKeras.Config(), "mlp_keras").build(spec)
            expected = [np.asarray(v) for v in initial.trainable_variables]
        expected = [0.5 * e + 0.5 * n for e, n in zip(expected, now, strict=True)]
    saved = expfw.load_model(averaged.folder / "model").model.trainable_variables
    for value, want in zip(saved, expected, strict=True):
        np.testing.assert_allclose(np.asarray(value), want, atol=1e-6)


def test_begin_from_a_checkpoint(train):
    options = ("dataset=digits", "model=mlp_keras", "model.dropout=0.3", "train.log_every=1", "train.average=0.9")
    whole = train(*options, "train.epochs=4", "callback.checkpoint.keep=9")
    for step in (42, 63):
        part = train(*options, "train.epochs=4", f"train.begin_from={whole.folder}/checkpoints/{step:09d}")
        assert part.steps == 84
        actual, expected = read_metrics(part.folder), read_metrics(whole.folder)
        assert actual["train/loss"] == {s: value for s, value in expected["train/loss"].items() if s >= step}
        for name in ("val/loss", "train/epoch_loss", "test/loss"):
            assert actual[name] == {s: value for s, value in expected[name].items() if s > step}
    with pytest.raises(expfw.ConfigError, match="is not a checkpoint; expected a folder like"):
        train(*options, "train.begin_from=nowhere")


def test_a_model_that_cannot_be_trained_is_rejected(train, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import expfw\n"
        "class NotCompiled(expfw.Model):\n"
        "    def build(self, data):\n"
        "        import keras\n"
        "        return keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.Flatten()])\n"
        "class NoOptimizer(expfw.Model):\n"
        "    def build(self, data):\n"
        "        import tensorflow as tf\n"
        "        return tf.Module()\n"
    )
    with pytest.raises(expfw.ConfigError, match=r"the model is not compiled; call model\.compile"):
        train("dataset=digits", "model=not_compiled", files=[str(plugin)])
    with pytest.raises(
        expfw.ConfigError, match=r"optimizer is None; expected a Keras optimizer, or a custom train_step"
    ):
        train("dataset=digits", "model=no_optimizer", files=[str(plugin)])


def test_class_weights_of_unknown_classes_are_rejected(train):
    with pytest.raises(expfw.ConfigError, match=r"unknown class '11'\. Available: 0, 1, 2"):
        train("dataset=digits", "model=mlp_keras", "+train.class_weight={11: 2.0}")
    with pytest.raises(expfw.ConfigError, match="needs a single target with classes"):
        train("dataset=line", "model=ols", "+train.class_weight={1: 2.0}")


@pytest.mark.slow
def test_sparse_gradients_do_not_depend_on_devices_or_parts(train):
    options = ("dataset=odd", "model=words", "train.epochs=5", "train.batch_size=33", "train.log_every=1")
    for clipped in ((), ("train.clip_norm=0.05",), ("train.clip_value=0.01",)):
        expected = read_metrics(train(*options, *clipped, files=[ENGINE_PLUGINS]).folder)
        for devices in ("mirrored-2", "in-parts"):
            assert_equal_metrics(
                train(*options, *clipped, *DEVICE_OVERRIDES[devices], files=[ENGINE_PLUGINS]).folder, expected
            )


def test_loss_scaling_in_16_bits(train, monkeypatch):
    """The backend rejects float16 on a CPU, because it is slow; this test compares the results only."""
    monkeypatch.setattr("expfw_backends.tensorflow_backend.TensorFlowBackend.devices", lambda self, run: None)
    monkeypatch.setattr("expfw_backends.devices.precision.check_precision", lambda name: None)
    options = ("dataset=digits", "model=mlp_keras", "train.epochs=3", "model.optimizer.learning_rate=0.05")
    scaled = train(*options, "backend.precision=mixed_float16", "train.clip_norm=1.0")
    plain = train(*options, "train.clip_norm=1.0")
    assert scaled.metrics["train/epoch_loss"] == pytest.approx(plain.metrics["train/epoch_loss"], rel=0.02)
    assert scaled.metrics["train/epoch_loss"] != plain.metrics["train/epoch_loss"]


def test_a_model_with_a_fixed_batch_size(train):
    options = ("dataset=odd", "dataset.samples=40", "model=particular", "train.batch_size=20", "train.limit_batches=1")
    assert train(*options, files=[ENGINE_PLUGINS]).status == "FINISHED"


def test_a_metric_with_several_values_is_rejected(train):
    options = ("dataset=odd", "model=particular", "model.vector=true", "train.batch_size=20", "train.limit_batches=1")
    with pytest.raises(expfw.ConfigError, match=r"metric 'several' returns shape \(3,\); expected one number"):
        train(*options, files=[ENGINE_PLUGINS])


def test_keras_moving_average_is_used_at_the_end_as_in_fit(train):
    from support.equal_metrics import assert_equal_metrics

    options = ("dataset=digits", "model=mlp_keras", "train.epochs=2")
    averaged = train(*options, "+model.optimizer.options.use_ema=true", "+model.optimizer.options.ema_momentum=0.9")
    assert averaged.metrics["val/loss"] == train(*options).metrics["val/loss"]  # as in fit, only the end is averaged
    assert averaged.metrics["test/loss"] != train(*options).metrics["test/loss"]
    assert_equal_metrics(averaged.folder, read_metrics(averaged.folder), 0)


def test_functions_of_a_lambda_callback_are_called(train):
    batches = []
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    result = train("dataset=digits", "model=mlp_keras", "train.epochs=1", observers=[CallbackProvider(callback)])
    assert batches == list(range(result.steps))


def test_a_model_checkpoint_per_epoch_does_not_need_every_step(train, tmp_path):
    callback = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), save_best_only=True)
    result = train("dataset=digits", "model=mlp_keras", "train.steps=50", observers=[CallbackProvider(callback)])
    assert (tmp_path / "best.keras").exists()
    texts = [r.get("text", "") for r in journal.read_records(result.folder / journal.NAME)[0]]
    assert not any("one step per call" in text for text in texts)


def test_keras_callbacks_end_an_incomplete_epoch(train):
    recorder = Recorder()
    train("dataset=digits", "model=mlp_keras", "train.steps=30", observers=[CallbackProvider(recorder)])
    assert [call[:2] for call in recorder.calls] == [("train", 2), ("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]
    assert "val_loss" in recorder.calls[-1][2]


def test_invalid_keras_callbacks_are_rejected(train):
    options = ("dataset=digits", "model=mlp_keras")
    with pytest.raises(expfw.ConfigError, match="'x' as a Keras callback; expected a"):
        train(*options, observers=[CallbackProvider("x")])
    with pytest.raises(expfw.ConfigError, match=r"BackupAndRestore.* train\.begin_from"):
        train(*options, observers=[CallbackProvider(keras.callbacks.BackupAndRestore("x.weights.h5"))])


def test_a_checkpoint_of_a_different_training_is_rejected(train):
    options = ("dataset=digits", "model=mlp_keras", "train.epochs=2")
    last = f"train.begin_from={train(*options).folder}/checkpoints/000000042"
    with pytest.raises(expfw.ConfigError, match="has steps_per_epoch=21, this training has 41"):
        train(*options, last, "train.batch_size=32")
    with pytest.raises(expfw.ConfigError, match="has seed=0, this training has 1"):
        train(*options, last, "seed=1")
    with pytest.raises(expfw.ConfigError, match=r"is at step 42 and this training ends at step 42; increase train"):
        train(*options, last)


@pytest.mark.slow
def test_accumulation_with_large_layers_and_much_data(train):
    """A regression test: TensorFlow's graph optimizer put temporary variables into the loop, which then failed."""
    data = ("dataset=noise", "dataset.shape=[28,28,1]", "dataset.classes=10", "dataset.samples=55000")
    result = train(*data, "model=cnn", "train.batch_size=200", "train.accumulate=2", "train.steps=40", "callback=[]",
                   "model.dropout=0")  # fmt: skip
    assert result.steps == 40
