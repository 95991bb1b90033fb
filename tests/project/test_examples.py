"""The wrapping callbacks of docs/authors/examples: around data, model and training."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT

import expfw
from expfw.plugins.catalogue import get_catalogue
from expfw.testing import CallbackContract
from expfw.tracking.recorded_run import read_run
from expfw_datasets.digits import Digits

pytestmark = pytest.mark.usefixtures("processors")

DIGITS = ("dataset=digits", "model=mlp_keras", "train.epochs=2", "train.log_every=1")
DIGITS += ("model.optimizer.learning_rate=0.1",)


def file(name):
    return str(ROOT / "docs" / "authors" / "examples" / f"{name}.py")


def cls(name):
    return get_catalogue((file(name),)).get("callback", name).load()


def call_wrapper(wrapper, result):
    """Returns the result of a hook wrapper around `result`."""
    next(wrapper)
    with pytest.raises(StopIteration) as end:
        wrapper.send(result)
    return end.value.value


class TestCutout(CallbackContract):
    plugin = cls("cutout")
    options = {"size": 3}  # noqa: RUF012  # as authors write it


class TestProfiler(CallbackContract):
    plugin = cls("profiler")


class TestSharpnessAware(CallbackContract):
    plugin = cls("sharpness_aware")
    options = {"radius": 0.1}  # noqa: RUF012


def images():
    x = np.random.default_rng(0).normal(size=(6, 8, 8, 2)).astype(np.float32)
    split = expfw.Split(x, np.arange(6, dtype=np.int32) % 3, np.ones(6, np.float32))
    return expfw.Splits(expfw.DataSpec((8, 8, 2), 3), split, split)


def cut_out(data, seed=0, **options):
    plugin = cls("cutout")
    callback = plugin(plugin.Config(**options), "cutout")
    return call_wrapper(callback.expfw_load_data(config=type("Config", (), {"seed": seed})), data)


def test_cutout_hides_one_square_in_each_copy():
    data = images()
    result = cut_out(data, copies=2, size=3)
    assert result.validation is data.validation
    assert result.train.x.shape == (18, 8, 8, 2)
    np.testing.assert_array_equal(result.train.x[:6], data.train.x)
    np.testing.assert_array_equal(result.train.y, np.tile(data.train.y, 3))
    np.testing.assert_array_equal(result.train.weight, np.ones(18))
    for copy, image in zip(result.train.x[6:], np.tile(data.train.x, (2, 1, 1, 1)), strict=True):
        hidden = (copy != image).all(axis=-1)
        np.testing.assert_array_equal(copy[~hidden], image[~hidden])
        assert len(np.unique(copy[hidden])) == 1
        sides = [np.flatnonzero(hidden.any(axis=axis)) for axis in (0, 1)]
        assert all(2 <= len(side) <= 3 and np.ptp(side) == len(side) - 1 for side in sides)
        assert hidden.sum() == len(sides[0]) * len(sides[1])


def test_cutout_depends_on_the_seed():
    same, other = (cut_out(images(), seed).train.x for seed in (0, 1))
    np.testing.assert_array_equal(cut_out(images()).train.x, same)
    assert (same != other).any()


def artifacts(folder):
    return [record["path"] for record in read_run(folder).select("artifact")]


def test_the_profile_is_an_artifact_and_contains_the_engine(train):
    result = train(*DIGITS, "callback=[profiler]", "callback.profiler.rows=15", files=[file("profiler")])
    assert "profile" in artifacts(result.folder)
    table = (result.folder / "profile" / "fit.txt").read_text()
    assert "engine.py" in table
    assert "to 15 due to restriction" in table


def test_a_failed_training_is_profiled(train, workdir):
    too_large = ("model.activation=relu", "model.optimizer.learning_rate=1e30")
    with pytest.raises(expfw.TrainingError):
        train(*DIGITS, *too_large, "callback=[profiler]", files=[file("profiler")])
    (folder,) = workdir.glob("runs/[0-9]*/*")
    assert "profile" in artifacts(folder)


def losses(folder):
    return [p.values["train/loss"] for p in read_run(folder).points if "train/loss" in p.values]


def test_a_sharpness_aware_step_is_that_of_the_paper():
    import keras

    x, y = np.array([[1, 2], [3, -1], [0, 1.0]], np.float32), np.array([[1], [0], [2.0]], np.float32)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    weights = model.get_weights()[0]
    plugin = cls("sharpness_aware")
    wrapped = call_wrapper(plugin(plugin.Config(radius=0.5), "sharpness_aware").expfw_build_model(), model)
    loss = wrapped.train_step((x, y))["loss"]

    def gradient(w):
        return 2 / 3 * x.T @ (x @ w - y)

    highest = weights + 0.5 * gradient(weights) / np.linalg.norm(gradient(weights))
    np.testing.assert_allclose(float(loss), np.mean((x @ weights - y) ** 2), rtol=1e-5)
    np.testing.assert_allclose(wrapped.get_weights()[0], weights - 0.1 * gradient(highest), rtol=1e-4)


def test_sharpness_aware_training_saves_the_unwrapped_model(train):
    aware = ("callback=[sharpness_aware]", "callback.sharpness_aware.radius")
    plain = train(*DIGITS)
    zero, positive = (train(*DIGITS, aware[0], f"{aware[1]}={r}", files=[file("sharpness_aware")]) for r in (0, 0.2))
    np.testing.assert_allclose(losses(zero.folder), losses(plain.folder), rtol=1e-3)
    assert not np.allclose(losses(positive.folder), losses(plain.folder), rtol=1e-2)
    saved = expfw.load_model(positive.folder / "model", files=[file("sharpness_aware")])
    assert type(saved.model).__name__ == "Sequential"
    data = Digits(Digits.Config(), "digits").load(0)
    predicted = np.argmax(saved.predict(data.spec.preprocessing.inverse(data.test.x)), axis=1)
    assert np.mean(predicted == data.test.y) == pytest.approx(positive.metrics["test/accuracy"])


@pytest.mark.parametrize(
    ("callback", "overrides", "error", "match"),
    [
        ("cutout", ["dataset=line", "model=ols"], expfw.DataError, r"needs images .*; these have \(1,\)"),
        ("sharpness_aware", ["model=mlp_layers"], expfw.ConfigError, "needs a Keras model that does not override"),
        ("sharpness_aware", ["backend=mirrored", "backend.cpus=2"], expfw.ConfigError, "needs one device"),
    ],
)
def test_examples_reject_unsupported_data_models_and_backends(train, callback, overrides, error, match):
    with pytest.raises(error, match=f"callback={callback} {match}"):
        train(f"callback=[{callback}]", *overrides, files=[file(callback)])
