"""Overrides as people type them, made readable for Hydra's grammar: with the meaning that they have."""

import doctest
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import OverrideParseException

from expfw.config import quoting, unknown_keys
from expfw.config.compose import compose
from expfw.config.quoting import find_typed_override, quote_for_shell, quote_overrides
from expfw.errors import ConfigError
from expfw.plugins.catalogue import get_catalogue
from expfw.runs import resume
from expfw.sweeps.plan.trials import make_preview


def _values(word):
    (parsed,) = OverridesParser.create().parse_overrides(quote_overrides([word]))
    value = parsed.value()
    return [getattr(one, "text", one) for one in value.list] if isinstance(value, ChoiceSweep) else value


@pytest.mark.parametrize(
    ("word", "meant"),
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
    ],
)
def test_text_is_what_was_typed(word, meant):
    assert _values(word) == meant
    assert quote_overrides(quote_overrides([word])) == quote_overrides([word])
    assert find_typed_override(*quote_overrides([word]), [word]) == word


@pytest.mark.parametrize(
    "word", ["name=a b", "model.units=32,64", "name='a,b'", "x=[1, {a: b}]", "~callback", "x=tag(log,interval(1,2))"]
)
def test_what_can_be_read_stays_as_it_is(word):
    assert quote_overrides([word]) == [word]


@pytest.mark.parametrize("word", ["é=3", "x={é: 1}", "x='é", "x=~/é", "x==é", "x=é\n", "x=\udcffé", "x=a=é", "x=(é)"])
def test_what_is_not_clear_is_refused(word):
    with pytest.raises(OverrideParseException):
        OverridesParser.create().parse_overrides(quote_overrides([word]))
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        compose([word])
    assert "Exception" not in str(refused.value)
    assert str(refused.value).startswith(word.strip())  # no quotes that nobody typed
    assert "parsing" not in str(refused.value)


def test_the_text_that_is_offered_is_that_text():
    for text in ("a: b, c", "it's", 'a "b", $c', "a\\", "[1,2", "é(1)"):
        (word,) = shlex.split(quote_for_shell("name", text))
        assert _values(word) == text


def test_every_command_reads_it(tmp_path):
    config = compose(["name=é", f"runs_dir={tmp_path}/rüns", "+tags.x=ä b"])
    assert (config.name, config.runs_dir, config.tags) == ("é", f"{tmp_path}/rüns", {"x": "ä b"})
    typed = ["dataset=digits", "name=é,ü", "+tags.x=ä b", f"runs_dir={tmp_path}/rüns"]
    planned = make_preview(typed, get_catalogue())
    assert planned.overrides == typed
    assert [row.trial.name for row in planned.rows] == ["name=é", "name=ü"]
    assert planned.rows[1].request.config.name == "ü"
    assert planned.rows[0].request.overrides == ("dataset=digits", "name=é", *typed[2:])
    assert resume.apply_overrides({"name": "a"}, ["name=é"])[0] == {"name": "é"}
    conditional = ["dataset=digits", "sweep.space={model: {mlp_keras: {name: 'é,ü'}}}", "model=mlp_keras"]
    assert [row.request.config.name for row in make_preview(conditional, get_catalogue()).rows] == ["é", "ü"]


@pytest.mark.parametrize("module", [quoting, unknown_keys])
def test_the_examples_of_docstrings_are_right(module):
    tested = doctest.testmod(module)
    assert tested.attempted > 0
    assert tested.failed == 0
