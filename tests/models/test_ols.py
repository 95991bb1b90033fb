"""Linear regression, compared with the printed digits of the sources."""

from __future__ import annotations

import numpy as np
import pytest

import expfw
from expfw.errors import ConfigError
from expfw.tracking import journal

COSTS = [32.431, 6.011309, 1.446125, 0.656593, 0.519363, 0.494835, 0.489788, 0.488115, 0.487033, 0.486063]


def epoch_losses(folder):
    records, _ = journal.read_records(folder / journal.NAME)
    points = [r["values"] for r in records if r["kind"] == "metrics"]
    return [p["train/epoch_loss"] for p in points if "train/epoch_loss" in p]


def test_the_ten_costs_and_the_line_equal_the_source(train):
    result = train("experiment=ols")
    np.testing.assert_allclose(epoch_losses(result.folder), COSTS, atol=1e-4)
    model = expfw.load_model(result.folder / "model")
    bias, slope_and_bias = model.predict([[0.0], [1.0]])[:, 0]
    assert slope_and_bias - bias == pytest.approx(1.02732, abs=1e-4)
    assert bias == pytest.approx(0.19570, abs=1e-4)


def test_training_converges_to_the_closed_form(train):
    result = train("model=ols", "dataset=line", "train.epochs=3000", "train.log_every=1000")
    model = expfw.load_model(result.folder / "model")
    bias, slope_and_bias = model.predict([[0.0], [1.0]])[:, 0]
    assert slope_and_bias - bias == pytest.approx(0.942424, abs=1e-4)
    assert bias == pytest.approx(0.729091, abs=1e-4)


def test_without_validation_data_the_objective_is_the_training_loss(train):
    result = train("model=ols", "dataset=line", "train.epochs=10")
    assert result.objective_metric == "train/epoch_loss"
    assert result.objective == pytest.approx(COSTS[-1], abs=1e-4)
    records, _ = journal.read_records(result.folder / journal.NAME)
    assert any(r["kind"] == "message" and "no validation data" in r["text"] for r in records)
    assert not result.warnings


def test_without_validation_data_a_chosen_objective_is_replaced_with_a_warning(train):
    short = ("model=ols", "dataset=line", "train.epochs=1")
    result = train(*short, "objective.metric=val/loss")
    assert result.warnings == ("no validation data: the objective is train/epoch_loss instead of val/loss",)
    with pytest.raises(
        ConfigError, match=r"objective\.metric=val/nope needs validation data, but dataset 'line' provides none"
    ):
        train(*short, "objective.metric=val/nope")
    with pytest.raises(
        ConfigError, match=r"'train/epoch_los' \(objective\.metric\)\. Did you mean 'train/epoch_loss'\?"
    ):
        train(*short, "objective.metric=train/epoch_los")
    result = train(*short, "objective.metric=train/of_a_callback")  # a callback may log this metric
    assert "'train/of_a_callback' was never logged" in result.warnings[0]
