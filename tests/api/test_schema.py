"""Options as dataclasses: supported types and bounds, errors for invalid values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

import expfw
from expfw.api import option_schema


@dataclass
class Inner:
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"


@dataclass(kw_only=True)
class Everything:
    required: int
    whole: int = 1
    real: float = 1.5
    text: str = "x"
    flag: bool = False
    maybe: int | None = None
    choice: Literal["tail", "random"] = "tail"
    number: Literal[1, 2] = 1
    several: tuple[int, ...] = (1, 2)
    names: list[str] = field(default_factory=lambda: ["n"])
    table: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    inners: list[Inner] = field(default_factory=list)
    anything: Any = None
    count: int | None = expfw.option(1, at_least=1)
    rate: float = expfw.option(0.5, more_than=0, less_than=1)
    share: float = expfw.option(0.5, more_than=0, at_most=1)
    bias: float = expfw.option(0.0, less_than=math.inf, more_than=-math.inf)
    sizes: tuple[int, ...] = expfw.option((1,), at_least=1)
    weights: dict[str, float] = expfw.option({}, at_least=0)

    def __post_init__(self):
        if self.count == 7:
            raise ValueError("count is 7; expected another number")


def composed(**values):
    merged = OmegaConf.merge(option_schema.make_defaults(Everything), values)
    return option_schema.build_instance(Everything, OmegaConf.to_container(merged, resolve=True), "model")


def test_defaults_survive_the_round_trip():
    options = composed(required=3)
    assert options == Everything(required=3)
    assert isinstance(options.several, tuple)
    assert isinstance(options.inner, Inner)
    with pytest.raises(expfw.ConfigError, match=r"model\.required has no value; set it with model\.required=VALUE$"):
        option_schema.build_instance(Everything, {}, "model")


def test_values_are_converted_to_their_types():
    values = {"real": 2, "several": [4, 5, 6], "inner": {"rate": 1}, "table": {"a": 1}, "maybe": 4, "choice": "random"}
    options = composed(required=1, **values)
    assert (options.real, options.several, options.inner.rate, options.maybe) == (2.0, (4, 5, 6), 1.0, 4)
    assert isinstance(options.inner.rate, float)
    assert isinstance(options.table["a"], float)


def test_text_of_an_environment_variable_is_converted(monkeypatch):
    monkeypatch.setenv("VALUE", "2")
    monkeypatch.setenv("YES", "true")
    values = dict.fromkeys(("required", "real", "number"), "${oc.env:VALUE}")
    assert composed(**values, flag="${oc.env:YES}") == Everything(required=2, real=2.0, number=2, flag=True)


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        (int | str, 1, r"Invalid\.value has the type .*use int, float"),
        ("NoSuchType", 1, r"Invalid\.value has the type 'NoSuchType', which cannot be resolved"),
        (int, "x", r"the default of option Invalid\.value is 'x'; expected a whole number"),
    ],
)
def test_an_invalid_config_class_is_rejected(kind, default, expected):
    with pytest.raises(expfw.PluginError, match=expected):
        option_schema.make_defaults(make_dataclass("Invalid", [("value", kind, default)]))


def test_an_optional_nested_dataclass_can_be_set():
    @dataclass
    class Outer:
        inner: Inner | None = None

    assert option_schema.make_defaults(Outer) == {"inner": None}
    assert option_schema.build_instance(Outer, {"inner": {"rate": 2}}, "model") == Outer(Inner(2.0))


def test_options_are_listed_with_type_and_default():
    options = {o.name: o for o in option_schema.list_options(Everything)}
    assert (options["required"].required, options["required"].default) == (True, None)
    assert not options["maybe"].required
    assert (options["inner.rate"].type, options["inner.rate"].default) == ("float", 0.5)
    assert options["maybe"].type == "int or null"
    assert options["several"].type == "list of int"


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"required": "???"}, "model.required has no value; set it with model.required=VALUE"),
        ({"required": True}, "model.required is True; expected a whole number"),
        ({"required": None}, "model.required is null; expected a whole number"),
        ({"choice": "tial"}, "model.choice is 'tial'; expected one of tail, random. Did you mean 'tail'?"),
        ({"inner": {"kind": "c"}}, "model.inner.kind is 'c'; expected one of a, b"),
        (
            {"inner": {"kinds": "a"}},
            "unknown option 'model.inner.kinds'. Did you mean 'model.inner.kind'? Available: rate, kind",
        ),
        ({"several": [1, "x"]}, "model.several[1] is 'x'; expected a whole number"),
        ({"real": "x"}, "model.real is 'x'; expected a number"),
        ({"table": [1]}, "model.table is [1]; expected entries, such as model.table={NAME: VALUE}"),
        ({"wholle": 2}, "unknown option 'model.wholle'. Did you mean 'model.whole'? Available: required, ..."),
        ({"count": 0}, "model.count is 0; expected 1 or more"),
        ({"count": 7}, "model.count is 7; expected another number"),
        ({"rate": 1.0}, "model.rate is 1.0; expected more than 0 and less than 1"),
        ({"share": math.nan}, "model.share is nan; expected more than 0 and at most 1"),
        ({"bias": math.inf}, "model.bias is inf; expected a finite number"),
        ({"bias": -math.inf}, "model.bias is -inf; expected a finite number"),
        ({"sizes": (1, 0)}, "model.sizes[1] is 0; expected 1 or more"),
        ({"weights": {"a": -1.0}}, "model.weights.a is -1.0; expected 0 or more"),
    ],
)
def test_invalid_values_are_reported_with_the_expected_value(values, error):
    with pytest.raises(expfw.ConfigError, match=re.escape(error).replace(r"\.\.\.", ".*") + "$"):
        option_schema.build_instance(Everything, {"required": 1} | values, "model")


def test_values_inside_their_bounds_and_null_are_accepted():
    config = composed(required=1, count=None, share=1.0, sizes=[], weights={"a": 0.0})
    assert (config.count, config.share, config.sizes, config.weights) == (None, 1.0, (), {"a": 0.0})


def test_an_instance_that_a_plugin_creates_is_checked():
    with pytest.raises(ValueError, match="steps is 0; expected 1 or more"):
        expfw.Every(steps=0)
    with pytest.raises(ValueError, match=r"rate is -0\.5; expected 0 or more"):
        expfw.Schedule("cosine", rate=-0.5)
