"""Saved models: the same predictions from raw input, in any process."""

from __future__ import annotations

import numpy as np
import pytest

import expfw


@pytest.fixture
def saved(train):
    return train("dataset=digits", "train.epochs=3", "model.optimizer.learning_rate=0.1").folder / "model"


def test_a_saved_model_predicts_from_raw_pixels_with_the_recorded_accuracy(train):
    from sklearn.datasets import load_digits

    result = train("dataset=digits", "train.epochs=3", "dataset.split_by=tail")
    pixels, labels = load_digits(return_X_y=True)
    model = expfw.load_model(result.folder / "model")
    output = model.predict(pixels[-359:], batch_size=32, verbose=0)
    assert output.shape == (359, 10)
    assert np.mean(output.argmax(axis=1) == labels[-359:]) == pytest.approx(result.metrics["test/accuracy"], abs=1e-6)
    assert (model.data.input_shape, model.data.classes, model.raw_range) == ((8, 8, 1), 10, (0, 16))
    assert model.data.class_names == tuple("0123456789")
    assert model.config.model["plugin"] == "mlp_keras"


@pytest.mark.parametrize("name", ["model.json", "preprocessing.safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], None])
def test_a_damaged_model_is_a_journal_error(saved, name, damage):
    path = saved / name
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(expfw.JournalError, match="cannot read a saved model from"):
        expfw.load_model(saved)


def test_a_missing_plugin_is_named(saved):
    path = saved / "model.json"
    path.write_text(path.read_text().replace('"plugin": "mlp_keras"', '"plugin": "gone"'))
    with pytest.raises(expfw.PluginError, match="unknown model plugin 'gone'"):
        expfw.load_model(saved)
