"""Configurations that are small as text and huge when expanded, by YAML aliases or interpolations."""

from __future__ import annotations

import time

import pytest
from omegaconf import OmegaConf

import expfw
from expfw.config.compose import compose
from expfw.config.interpolations import check_interpolations
from expfw.runs.resume import apply_overrides
from expfw.system.yaml_files import read_yaml

pytestmark = pytest.mark.timeout(60)
LEVELS = range(1, 30)
ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in LEVELS)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{'<<': [*a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in LEVELS)
ITSELF = "a: &a [*a]\n"
DEEP = "a: " + "[" * 3000 + "]" * 3000 + "\n"
LONG = "a: [" + "1," * 600_000 + "]\n"


@pytest.mark.parametrize("text", [ALIASES, MERGES.replace("'", ""), ITSELF, DEEP, LONG])
def test_a_yaml_file_that_expands_to_too_many_values_is_rejected(workdir, text):
    began = time.monotonic()
    (workdir / "config.yaml").write_text(text)
    with pytest.raises(expfw.ConfigError, match=r"config.yaml.*(too many values|larger than)"):
        read_yaml(workdir / "config.yaml")
    (workdir / "conf" / "experiment").mkdir(parents=True)
    (workdir / "conf" / "experiment" / "bomb.yaml").write_text(
        f"# @package _global_\ntags:\n  {text[:-1]}\n".replace("\na", "\n  a")
    )
    with pytest.raises(expfw.ConfigError, match=r"bomb.yaml.*(too many values|larger than)"):
        compose(["experiment=bomb"])
    assert time.monotonic() - began < 20


def test_aliases_are_allowed(workdir):
    (workdir / "config.yaml").write_text("a: &a [1, 2]\nb: {c: *a, d: [*a, *a]}\n")
    assert read_yaml(workdir / "config.yaml")["b"] == {"c": [1, 2], "d": [[1, 2], [1, 2]]}
    (workdir / "conf" / "experiment").mkdir(parents=True)
    (workdir / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ntags: {a: &a x, b: *a}\ntrain: {epochs: 3}\n"
    )
    assert compose(["experiment=mine"]).tags == {"a": "x", "b": "x"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: " + "9" * 5000, "bad.yaml.*digits"), ("a: [", "bad.yaml.*invalid YAML"), (b"\xff\xfe\xff", "UTF-8|bad.yaml")],
)
def test_an_invalid_file_is_an_error_of_one_line_that_names_it(workdir, text, expected):
    (workdir / "conf" / "experiment").mkdir(parents=True)
    content = text if isinstance(text, bytes) else text.encode()
    (workdir / "conf" / "experiment" / "bad.yaml").write_bytes(content)
    with pytest.raises(expfw.ConfigError, match=expected):
        compose(["experiment=bad"])
    with pytest.raises(expfw.ConfigError, match=r"bad.yaml is not valid YAML"):
        read_yaml(workdir / "conf" / "experiment" / "bad.yaml")


INTERPOLATIONS = {
    "lists": {"a0": [1, 1]} | {f"a{n}": [f"${{tags.a{n - 1}}}"] * 3 for n in LEVELS},
    "texts": {"a0": "x"} | {f"a{n}": f"${{tags.a{n - 1}}}" * 3 for n in LEVELS},
    "relative": {"a0": {"x": 1}} | {f"a{n}": {"p": f"${{..a{n - 1}}}", "q": f"${{..a{n - 1}}}"} for n in LEVELS},
    "nested keys": {"k0": "a0", "a0": "x"} | {f"a{n}": f"${{tags.${{tags.k0}}}}${{tags.a{n - 1}}}" * 2 for n in LEVELS},
    "cycle": {"a": {"x": "${tags.b}"}, "b": {"y": "${tags.a}"}},
    "long text": {"a": "x" * 1_000_000, "b": "${tags.a}" * 1000},
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolations_that_expand_to_too_many_values_are_rejected(name):
    began = time.monotonic()
    with pytest.raises(expfw.ConfigError, match="expand to too many values"):
        check_interpolations(OmegaConf.create({"tags": INTERPOLATIONS[name]}))
    assert time.monotonic() - began < 10


def test_interpolations_of_a_recorded_configuration_are_limited():
    with pytest.raises(expfw.ConfigError, match="expand to too many values"):
        apply_overrides({"tags": INTERPOLATIONS["lists"]}, [])


def test_interpolations_in_overrides_are_limited():
    overrides = ["+tags.a0=[1,1]", *(f"+tags.a{n}=[{','.join([f'${{tags.a{n - 1}}}'] * 3)}]" for n in LEVELS)]
    with pytest.raises(expfw.ConfigError, match="expand to too many values"):
        compose(overrides)
    assert compose(["+tags.a=x", "+tags.b=${tags.a}-${tags.a}"]).tags["b"] == "x-x"


@pytest.mark.parametrize(
    "override", ["+tags.a=" + "[" * 3000, "+tags.a=" + "[" * 200 + "]" * 200, "+tags.a=" + "{a:" * 500]
)
def test_deeply_nested_overrides_are_an_error_of_one_line(override):
    began = time.monotonic()
    with pytest.raises(expfw.ConfigError):
        compose([override])
    assert time.monotonic() - began < 20
