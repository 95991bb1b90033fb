"""Transfer of layers from a trained network."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

import expfw

pytestmark = pytest.mark.slow

CNN = (
    "dataset=digits", "model=cnn", "model.kernel=3", "model.filters=[4,8]", "model.dense=[16]",
    "model.batch_norm=true", "train.steps=20",
)  # fmt: skip


@pytest.fixture
def source(train):
    return train(*CNN, "seed=1", "callback=[]").folder


def arrays(folder):
    return load_file(folder / "model" / "weights.safetensors")


def transferred(train, source, *options):
    return train(*CNN, "seed=2", "callback=[transfer]", f"callback.transfer.model={source}", *options)


def test_frozen_layers_do_not_change_and_the_other_layers_learn(train, source):
    result = transferred(train, source, "callback.transfer.layers=4")  # two convolutions, each with its normalisation
    before, after = arrays(source), arrays(result.folder)
    names = sorted(before)
    assert len(names) == 20
    for name in names[:12]:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert not np.array_equal(after[names[12]], before[names[12]])


def test_copied_layers_that_are_not_frozen_learn(train, source):
    not_frozen = ("callback.transfer={layers: 4, freeze: 0}", f"callback.transfer.model={source}")
    result = transferred(train, source, *not_frozen, "train.steps=1")
    change = np.abs(arrays(result.folder)["weights/000"] - arrays(source)["weights/000"]).max()
    assert 0 < change < 1e-3  # one step of Adam at 1e-4


def test_transfer_works_on_several_devices(train, source):
    result = transferred(train, source, "backend=mirrored", "backend.cpus=2", "callback.transfer.layers=2")
    np.testing.assert_array_equal(arrays(result.folder)["weights/000"], arrays(source)["weights/000"])


def test_a_model_with_transferred_layers_is_saved_and_loaded(train, source):
    result = transferred(train, source)
    (source / "model" / "model.json").unlink()  # no longer needed
    assert expfw.load_model(result.folder / "model").predict(np.zeros((2, 8, 8, 1))).shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("model.filters=[5,8]",), r"layer 1 \(conv2d.*\) has weights of shape \[\(3, 3, 1, 5\)"),
        (("callback.transfer.layers=7",), "copies and freezes all layers of this model"),
        (("callback.transfer.layers=9",), "this model has 7 layers with weights"),
        (("model=perceptron", "model.l2=0"), "this model has no layers to copy"),
    ],
)
def test_layers_that_cannot_be_copied_are_an_error_before_training(train, source, options, expected):
    overrides = [*CNN, "callback=[transfer]", f"callback.transfer.model={source}", *options]
    if "model=perceptron" in options:
        overrides = ["dataset=digits", *overrides[-4:]]
    with pytest.raises(expfw.ConfigError, match=expected):
        train(*overrides)


def test_a_folder_without_a_model_is_an_error(train, tmp_path):
    with pytest.raises(expfw.JournalError, match="cannot read a saved model from"):
        train(*CNN, "callback=[transfer]", f"callback.transfer.model={tmp_path}")
