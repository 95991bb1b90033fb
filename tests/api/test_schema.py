"""Options as dataclasses: supported types, errors for invalid values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

import expfw
from expfw.api import option_schema


@dataclass
class Inner:
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"


@dataclass
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


def composed(**values):
    node = OmegaConf.structured(option_schema.make_omegaconf_class(Everything, {"plugin": "p"}))
    merged = OmegaConf.merge(node, values)
    plain = OmegaConf.to_container(merged, resolve=True)
    assert plain.pop("plugin") == "p"
    return option_schema.build_instance(Everything, plain, "model")


def test_defaults_survive_the_round_trip():
    options = composed(required=3)
    assert options == Everything(3)
    assert isinstance(options.several, tuple)
    assert isinstance(options.inner, Inner)


def test_values_are_converted_to_their_types():
    values = {"real": 2, "several": [4, 5, 6], "inner": {"rate": 1}, "table": {"a": 1}, "maybe": 4, "choice": "random"}
    options = composed(required=1, **values)
    assert (options.real, options.several, options.inner.rate, options.maybe) == (2.0, (4, 5, 6), 1.0, 4)
    assert isinstance(options.inner.rate, float)
    assert isinstance(options.table["a"], float)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "model.required has no value"),
        ({"required": "???"}, "model.required has no value"),
        ({"required": 1, "wholle": 2}, "unknown option 'model.wholle'. Did you mean 'model.whole'?"),
        (
            {"required": 1, "choice": "tial"},
            "model.choice is 'tial'; expected one of tail, random. Did you mean 'tail'?",
        ),
        ({"required": 1, "inner": {"kind": "c"}}, "model.inner.kind is 'c'; expected one of a, b"),
        ({"required": 1, "inner": {"kinds": "a"}}, "unknown option 'model.inner.kinds'"),
        ({"required": 1, "several": [1, "x"]}, "model.several[1] is 'x'; expected a whole number"),
        ({"required": True}, "model.required is True; expected a whole number"),
        ({"required": None}, "model.required is None; expected a whole number"),
        ({"required": 1, "real": "x"}, "model.real is 'x'; expected a number"),
        ({"required": 1, "table": [1]}, "model.table is [1]; expected mapping"),
    ],
)
def test_invalid_values_are_reported_with_the_expected_value(values, expected):
    with pytest.raises(expfw.ConfigError) as caught:
        option_schema.build_instance(Everything, values, "model")
    assert expected in str(caught.value)


def test_a_value_rejected_by_the_class_is_a_config_error():
    @dataclass
    class Picky:
        units: int = 1

        def __post_init__(self):
            if self.units < 1:
                raise ValueError(f"units is {self.units}; expected 1 or more")

    with pytest.raises(expfw.ConfigError, match=r"model\.units is 0; expected 1 or more"):
        option_schema.build_instance(Picky, {"units": 0}, "model")


def test_an_unsupported_type_is_rejected_with_a_list_of_supported_types():
    @dataclass
    class Odd:
        both: int | str = 1

    with pytest.raises(expfw.PluginError, match=r"Odd\.both has the type .*use int, float"):
        option_schema.make_omegaconf_class(Odd)


def test_an_unresolvable_type_and_a_reserved_name_are_rejected():
    @dataclass
    class Unknown:
        size: NoSuchType = 1  # noqa: F821  # undefined on purpose

    @dataclass
    class Taken:
        plugin: str = "x"

    with pytest.raises(expfw.PluginError, match=r"Unknown\.size has the type 'NoSuchType', which cannot be resolved"):
        option_schema.make_omegaconf_class(Unknown)
    with pytest.raises(expfw.PluginError, match=r"Taken\.plugin has a reserved name"):
        option_schema.make_omegaconf_class(Taken, {"plugin": "p"})


def test_an_optional_nested_dataclass_can_be_set():
    @dataclass
    class Outer:
        inner: Inner | None = None

    node = OmegaConf.merge(OmegaConf.structured(option_schema.make_omegaconf_class(Outer)), {"inner": {"rate": 2}})
    assert option_schema.build_instance(Outer, OmegaConf.to_container(node), "model") == Outer(Inner(2.0))


def test_options_are_listed_with_type_and_default():
    options = {o.name: o for o in option_schema.list_options(Everything)}
    assert (options["required"].required, options["required"].default) == (True, None)
    assert not options["maybe"].required
    assert (options["inner.rate"].type, options["inner.rate"].default) == ("float", 0.5)
    assert options["maybe"].type == "int or null"
    assert options["several"].type == "list of int"
