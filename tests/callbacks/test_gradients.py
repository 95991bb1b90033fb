"""Norms and histograms of gradients."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.equal_metrics import ENGINE_PLUGINS, read_metrics

pytestmark = pytest.mark.slow

DIGITS = ("dataset=digits", "model=mlp_keras", "train.steps=40", "train.log_every=1")
WATCHED = ("callback=[gradients]", "callback.gradients.every=10")


def norms(folder):
    return {name: values for name, values in read_metrics(folder).items() if name.startswith("gradient/")}


def test_logged_gradients_are_the_applied_gradients(train):
    """In plain gradient descent, the weights change by the learning rate times the gradient."""
    plain = ("model.optimizer.momentum=0", "model.optimizer.learning_rate=0.5", "callback.checkpoint.every.steps=1")
    result = train(*DIGITS, *plain, "callback=[gradients,checkpoint]", "callback.checkpoint.keep=50",
                   "callback.gradients.every=10")  # fmt: skip
    before, after = (
        load_file(result.folder / "checkpoints" / f"{step:09d}" / "arrays.safetensors") for step in (9, 10)
    )
    found = norms(result.folder)
    assert list(found["gradient/kernel_0"]) == [0, 9, 19, 29, 39]
    for name, key in (("kernel_0", "weights/000"), ("bias_0", "weights/001"), ("kernel_2", "weights/004")):
        applied = np.linalg.norm(after[key] - before[key]) / 0.5
        assert found[f"gradient/{name}"][9] == pytest.approx(applied, rel=1e-3)


def test_logging_gradients_does_not_change_the_training(train):
    alone, watched = (read_metrics(train(*DIGITS, *options).folder) for options in (["callback=[]"], WATCHED))
    assert alone["train/loss"] == watched["train/loss"]
    assert not any(name.startswith("gradient/") for name in alone)


def test_logged_gradients_are_of_the_whole_batch_before_clipping(train):
    small = ("dataset=odd", "model=small", "train.steps=20", "train.batch_size=33", *WATCHED)
    small = (*small, "callback.gradients.every=2", "callback.gradients.histograms=false")
    one = norms(train(*small, files=[ENGINE_PLUGINS]).folder)
    first = {name: values[0] for name, values in one.items()}
    for options in (
        ("backend=mirrored", "backend.cpus=2"),
        ("backend=mirrored", "backend.cpus=2", "train.clip_norm=0.01"),
        ("train.clip_norm=0.01",),
        ("train.accumulate=3",),
        ("model.loss_scaling=true",),
    ):
        other = norms(train(*small, *options, files=[ENGINE_PLUGINS]).folder)
        assert {name: values[0] for name, values in other.items()} == pytest.approx(first, rel=1e-4)
        if "train.clip_norm=0.01" not in options:
            for name, values in one.items():
                assert other[name] == pytest.approx(values, rel=1e-3, abs=1e-5)


def test_gradients_of_a_model_with_a_custom_train_step_are_an_error(train):
    with pytest.raises(Exception, match="a callback needs gradients"):
        train("dataset=odd", "model=own_step", "train.steps=2", *WATCHED, files=[ENGINE_PLUGINS])
