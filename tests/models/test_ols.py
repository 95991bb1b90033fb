"""Linear and polynomial regression, compared with the printed digits of the sources and with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.equal_metrics import read_metrics

import expfw
from expfw.tracking.recorded_run import read_run
from expfw_datasets.curve import Curve

COSTS = [32.431, 6.011309, 1.446125, 0.656593, 0.519363, 0.494835, 0.489788, 0.488115, 0.487033, 0.486063]


def test_the_ten_costs_and_the_line_equal_the_source(train):
    result = train("experiment=ols")
    np.testing.assert_allclose(list(read_metrics(result.folder)["train/epoch_loss"].values()), COSTS, atol=1e-4)
    bias, slope_and_bias = expfw.load_model(result.folder / "model").predict([[0.0], [1.0]])[:, 0]
    assert (slope_and_bias - bias, bias) == pytest.approx((1.02732, 0.19570), abs=1e-4)


@pytest.mark.slow
def test_training_converges_to_the_closed_form(train):
    result = train("model=ols", "dataset=line", "train.epochs=3000", "train.log_every=1000")
    bias, slope_and_bias = expfw.load_model(result.folder / "model").predict([[0.0], [1.0]])[:, 0]
    assert (slope_and_bias - bias, bias) == pytest.approx((0.942424, 0.729091), abs=1e-4)


def test_without_validation_data_the_objective_is_the_training_loss(train):
    result = train("model=ols", "dataset=line", "train.epochs=10")
    assert result.objective_metric == "train/epoch_loss"
    assert result.objective == pytest.approx(COSTS[-1], abs=1e-4)
    assert any("no validation data" in message["text"] for message in read_run(result.folder).select("message"))
    assert not result.warnings


def test_without_validation_data_a_chosen_objective_is_replaced_with_a_warning(train):
    short = ("model=ols", "dataset=line", "train.epochs=1")
    result = train(*short, "objective.metric=val/loss")
    assert result.warnings == ("no validation data: the objective is train/epoch_loss instead of val/loss",)
    for metric, expected in (
        ("val/nope", r"objective\.metric=val/nope needs validation data, but dataset 'line' provides none"),
        ("train/epoch_los", r"'train/epoch_los' \(objective\.metric\)\. Did you mean 'train/epoch_loss'\?"),
    ):
        with pytest.raises(expfw.ConfigError, match=expected):
            train(*short, f"objective.metric={metric}")
    result = train(*short, "objective.metric=train/of_a_callback")  # a callback may log this metric
    assert "'train/of_a_callback' was never logged" in result.warnings[0]


def arrays(result):
    return load_file(result.folder / "model" / "weights.safetensors")


def test_the_line_equals_the_lab(train):
    result = train("experiment=linear_lab", "callback=[]")
    losses = read_metrics(result.folder)["train/loss"]
    assert losses[0] == pytest.approx(23.66, abs=1e-4)
    assert losses[100] == pytest.approx(0.146364, abs=1e-6)
    assert losses[200] == pytest.approx(0.0131513, abs=1e-7)
    bias, weight = arrays(result).values()
    assert weight.item() == pytest.approx(-0.9999969, abs=1e-6)
    assert bias.item() == pytest.approx(0.9999908, abs=3e-6)


def test_the_evaluation_loss_is_the_variance_of_the_noise(train):
    result = train("experiment=linear_lab_eval", "callback=[]")
    assert result.metrics["train/epoch_loss"] < 1e-6
    assert result.metrics["val/loss"] == pytest.approx(0.0025, abs=1e-4)


def test_damped_momentum_is_keras_momentum_with_a_smaller_rate(train):
    """Compares the experiment with change = -(1 - nu) * rate * gradient + nu * old change, computed in NumPy."""
    nu, rate, l2, steps = 0.99, 0.5, 1e-6, 200
    result = train("experiment=polynomial", "callback=[]", f"train.steps={steps}", "train.log_every=1")
    data = Curve(Curve.Config(limit=20), "curve").load(0)
    powers = data.train.x.astype(np.float64) ** np.arange(4)
    target, weights, change, losses = data.train.y[:, 0].astype(np.float64), np.zeros(4), np.zeros(4), []
    for _ in range(steps):
        error = powers @ weights - target
        penalty = np.array([0, *weights[1:]])
        losses.append(np.mean(error**2) + l2 * np.sum(penalty**2))
        change = -(1 - nu) * rate * (2 * powers.T @ error / len(target) + 2 * l2 * penalty) + nu * change
        weights += change
    np.testing.assert_allclose(list(read_metrics(result.folder)["train/loss"].values()), losses, rtol=1e-4)
    bias, weight = arrays(result).values()
    np.testing.assert_allclose([bias.item(), *weight[:, 0]], weights, rtol=1e-3, atol=1e-4)


def test_a_sum_is_rejected_on_several_devices_and_in_parts(train):
    for options in (("backend=mirrored", "backend.cpus=2"), ("train.accumulate=2",)):
        with pytest.raises(expfw.ConfigError, match=r"the loss of 4 samples is .* the loss would have another value"):
            train("experiment=linear_lab", "callback=[]", *options)


def test_the_limit_does_not_change_the_samples_of_the_curve():
    whole = Curve(Curve.Config(), "curve").load(3)
    some = Curve(Curve.Config(limit=10), "curve").load(3)
    assert [len(split) for split in whole.get_splits().values()] == [140, 40, 20]
    np.testing.assert_array_equal(some.train.x, whole.train.x[:10])
    np.testing.assert_array_equal(some.validation.y, whole.validation.y)
    noiseless = Curve(Curve.Config(noise=0.0), "curve").load(3)
    np.testing.assert_allclose(noiseless.train.y, np.sin(np.pi * noiseless.train.x), atol=1e-6)
    assert not np.array_equal(Curve(Curve.Config(), "curve").load(4).train.x, whole.train.x)
