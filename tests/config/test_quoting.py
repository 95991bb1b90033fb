"""Quoting of typed overrides for Hydra's grammar, with unchanged meaning."""

import doctest
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import OverrideParseException

from expfw.config import error_messages, quoting
from expfw.config.compose import Composition, compose
from expfw.config.quoting import find_typed_override, quote_for_shell, quote_overrides
from expfw.errors import ConfigError, to_printable
from expfw.runs import resume
from expfw.sweeps.plan.trials import make_preview


def _parse_value(override):
    (parsed,) = OverridesParser.create().parse_overrides(quote_overrides([override]))
    value = parsed.value()
    return [getattr(item, "text", item) for item in value.list] if isinstance(value, ChoiceSweep) else value


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name=é", "é"),
        ("name= é ", "é"),
        ("+tags.x=ä b", "ä b"),
        ("name='é'", "é"),
        ('name="é,ü"', "é,ü"),
        (r"name=é\,ü", "é,ü"),
        ("name=é,ü", ["é", "ü"]),
        ("name= é , u", ["é", "u"]),
        ("name=choice(é,'ü')", ["é", "ü"]),
        ("name=[é, 'ö', u, 3]", ["é", "ö", "u", 3]),
        ("tags={a: é, b: [ü, 3], c: {d: 'ö'}, e: x:ß}", {"a": "é", "b": ["ü", 3], "c": {"d": "ö"}, "e": "x:ß"}),
        ("runs_dir=${oc.env:HOME}/rüns", "${oc.env:HOME}/rüns"),
        ("name=${oc.env:Ä}", "${oc.env:Ä}"),
        ("name=Jörg's", "Jörg's"),
        ("name=C:\\é\\", "C:\\é\\"),
        ("name=a#b", "a#b"),
        ("name=😀", "😀"),
        ("~name=é", "é"),
        ("sweep.on_failure=retry(2)", "retry(2)"),
    ],
)
def test_quoted_text_has_the_typed_value(override, expected):
    assert _parse_value(override) == expected
    assert quote_overrides(quote_overrides([override])) == quote_overrides([override])
    assert find_typed_override(*quote_overrides([override]), [override]) == override


@pytest.mark.parametrize(
    "override",
    ["name=a b", "model.units=32,64", "name='a,b'", "x=[1, {a: b}]", "~callback", "x=tag(log,interval(1,2))"],
)
def test_a_valid_override_is_not_changed(override):
    assert quote_overrides([override]) == [override]


@pytest.mark.parametrize(
    "override", ["é=3", "x={é: 1}", "x='é", "x=~/é", "x==é", "x=é\n", "x=\udcffé", "x=a=é", "x=(é)"]
)
def test_an_ambiguous_override_is_rejected(override):
    with pytest.raises(OverrideParseException):
        OverridesParser.create().parse_overrides(quote_overrides([override]))
    with pytest.raises(ConfigError, match="cannot be parsed") as error:
        compose([override])
    assert "Exception" not in str(error.value)
    assert str(error.value).startswith(to_printable(override.strip()))  # the override as typed, without added quotes
    assert "parsing" not in str(error.value)


def test_the_suggested_quoting_keeps_the_text():
    for text in ("a: b, c", "it's", 'a "b", $c', "a\\", "[1,2", "é(1)"):
        (override,) = shlex.split(quote_for_shell("name", text))
        assert _parse_value(override) == text


def test_every_command_accepts_text_beyond_ascii(tmp_path):
    config = compose(["name=é", f"runs_dir={tmp_path}/rüns", "+tags.x=ä b"])
    assert (config.name, config.runs_dir, config.tags) == ("é", f"{tmp_path}/rüns", {"x": "ä b"})
    typed = ["dataset=digits", "name=é,ü", "+tags.x=ä b", f"runs_dir={tmp_path}/rüns"]
    preview = make_preview(Composition(typed))
    assert shlex.split(preview.command) == ["expfw", "sweep", *typed]
    assert [row.trial.name for row in preview.rows] == ["name=é", "name=ü"]
    assert preview.rows[1].request.config.name == "ü"
    assert preview.rows[0].request.overrides == ("dataset=digits", "name=é", *typed[2:])
    assert resume.apply_overrides({"name": "a"}, ["name=é"])[0] == {"name": "é"}
    conditional = ["dataset=digits", "sweep.space={model: {mlp_keras: {name: 'é,ü'}}}", "model=mlp_keras"]
    assert [row.request.config.name for row in make_preview(Composition(conditional)).rows] == ["é", "ü"]


@pytest.mark.parametrize("module", [quoting, error_messages])
def test_docstring_examples_are_correct(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
