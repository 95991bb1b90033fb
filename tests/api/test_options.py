"""Bounds of options: which values are accepted, and the text of the error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

import expfw
from expfw.api.option_schema import build_instance


@dataclass
class Config:
    count: int | None = expfw.option(1, at_least=1)
    rate: float = expfw.option(0.5, more_than=0, less_than=1)
    share: float = expfw.option(0.5, more_than=0, at_most=1)
    bias: float = expfw.option(0.0, less_than=math.inf, more_than=-math.inf)
    sizes: tuple[int, ...] = expfw.option((1,), at_least=1)
    weights: dict[str, float] = expfw.option({}, at_least=0)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"count": 0}, "model.count is 0; expected 1 or more"),
        ({"rate": 1.0}, "model.rate is 1.0; expected more than 0 and less than 1"),
        ({"share": math.nan}, "model.share is nan; expected more than 0 and at most 1"),
        ({"bias": math.inf}, "model.bias is inf; expected a finite number"),
        ({"bias": -math.inf}, "model.bias is -inf; expected a finite number"),
        ({"sizes": (1, 0)}, "model.sizes[1] is 0; expected 1 or more"),
        ({"weights": {"a": -1.0}}, "model.weights.a is -1.0; expected 0 or more"),
    ],
)
def test_a_value_outside_its_bounds_is_rejected(values, error):
    with pytest.raises(expfw.ConfigError) as raised:
        build_instance(Config, values, "model")
    assert str(raised.value) == error


def test_values_inside_their_bounds_and_null_are_accepted():
    config = build_instance(Config, {"count": None, "share": 1.0, "sizes": [], "weights": {"a": 0.0}}, "model")
    assert (config.count, config.share, config.sizes, config.weights) == (None, 1.0, (), {"a": 0.0})


def test_an_instance_that_a_plugin_creates_is_checked():
    with pytest.raises(ValueError, match="steps is 0; expected 1 or more"):
        expfw.Every(steps=0)
    with pytest.raises(ValueError, match=r"rate is -0\.5; expected 0 or more"):
        expfw.Schedule("cosine", rate=-0.5)
