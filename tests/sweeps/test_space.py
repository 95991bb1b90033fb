"""The space of a sweep: Hydra's syntax, conditions, numbers of combinations, and rejected spaces."""

from __future__ import annotations

import time

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from expfw.config.plugin_source import make_hydra
from expfw.errors import ConfigError
from expfw.plugins.catalogue import get_catalogue
from expfw.sweeps.search.configuration_source import Grid
from expfw.sweeps.search.space_parser import read_space

CONDITIONAL = {
    "model": {"cnn": {"model.filters": "8,16", "model.dropout": "0.1,0.5"}, "mlp_keras": {"model.units": "16,32,64"}},
}


def parse(*arguments):
    return OverridesParser.create(config_loader=make_hydra(get_catalogue()).config_loader).parse_overrides(
        list(arguments)
    )


def make_space(*arguments, conditional=None, seed=0):
    return read_space(parse(*arguments), conditional or {}, seed)


def list_combinations(*arguments, conditional=None, seed=0):
    source = Grid(make_space(*arguments, conditional=conditional, seed=seed))
    return [list(source.propose(number)) for number in range(source.total)]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train.epochs=3"],
        ["model.units=16,32", "model.optimizer.learning_rate=0.05,0.2"],
        ["model=cnn,mlp_keras", "dataset=digits", "seed=1,2,3"],
        ["seed=range(5)", "x=range(1.0,2.0,0.1)", "y=range(10,0,-3)"],
        ["callback=[a],[b,c],[]", "+tags.x=1,2", "++z=q"],
        ["text='a b','c,d',\"e\",'it\\'s'", "plain=a b,c d"],
        ["a=choice(1,2.5,true,[1,2],{k:v})", "b=null,{k:v},x"],
        ["a=sort(3,1,2)", "b=sort(range(1,4),reverse=true)"],
        ["a=int(1.5,2.5)", "b=float(range(1,3))", "c=str(1,2)", "d=bool(0,1)"],
        ["model=glob(mlp*)", "dataset=glob(*,exclude=[mnist,n*])"],
        ["a=tag(x,choice(1,2))", "b=1e-05,1e22,nan"],
        ["a=1", "b=1,2", "a=3", "seed=4"],
        ["group@package=a,b", "~gone", "~with=3", "empty="],
    ],
)
def test_a_grid_has_the_order_of_hydras_basic_sweeper(arguments):
    (expected,) = BasicSweeper.split_arguments(parse(*arguments), max_batch_size=None)
    assert list_combinations(*arguments) == expected


def test_a_shuffle_depends_only_on_the_seed():
    first = list_combinations("a=shuffle(range(20))", "b=shuffle(1,2,3,4,5,6,7)", seed=1)
    assert first == list_combinations("a=shuffle(range(20))", "b=shuffle(1,2,3,4,5,6,7)", seed=1)
    assert first != list_combinations("a=shuffle(range(20))", "b=shuffle(1,2,3,4,5,6,7)", seed=2)
    assert first != list_combinations("a=range(20)", "b=1,2,3,4,5,6,7")
    assert sorted(first) == sorted(list_combinations("a=range(20)", "b=1,2,3,4,5,6,7"))


@pytest.mark.parametrize(
    ("arguments", "conditional", "expected"),
    [
        (  # directly after its choice
            ["d=1", "m=x,y", "s=1,2"],
            {"m": {"x": {"f": "8,9"}}},
            ["d=1 m=x f=8 s=1", "d=1 m=x f=8 s=2", "d=1 m=x f=9 s=1", "d=1 m=x f=9 s=2", "d=1 m=y s=1", "d=1 m=y s=2"],
        ),
        (  # several keys for one value; a value without conditions
            ["m=z,x,y,z"],
            {"m": {"x": {"f": "8,9", "g": "1,2"}, "y": {"u": "3,4"}}},
            ["m=z", "m=x f=8 g=1", "m=x f=8 g=2", "m=x f=9 g=1", "m=x f=9 g=2", "m=y u=3", "m=y u=4", "m=z"],
        ),
        (  # a condition on a conditional value
            ["m=x,y"],
            {"m": {"x": {"o": "sgd,adam"}, "y": {"o": "sgd"}}, "o": {"sgd": {"r": "0,0.9"}}, "r": {0: {"l": 1}}},
            ["m=x o=sgd r=0 l=1", "m=x o=sgd r=0.9", "m=x o=adam", "m=y o=sgd r=0 l=1", "m=y o=sgd r=0.9"],
        ),
        (  # without condition: after the command line
            ["s=1,2"],
            {"b": "16,32", "e": 3},
            ["s=1 b=16 e=3", "s=1 b=32 e=3", "s=2 b=16 e=3", "s=2 b=32 e=3"],
        ),
        (
            [],
            {"a": None, "b": True, "c": 0.5, "d": "[1,2],[3]"},
            ["a=null b=True c=0.5 d=[1,2]", "a=null b=True c=0.5 d=[3]"],
        ),
        (["m=x", "s=1,2"], {"m": {"x": {"u": "1,2"}}}, ["m=x u=1 s=1", "m=x u=1 s=2", "m=x u=2 s=1", "m=x u=2 s=2"]),
    ],
)
def test_a_grid_contains_conditional_values(arguments, conditional, expected):
    assert [" ".join(overrides) for overrides in list_combinations(*arguments, conditional=conditional)] == expected


def test_a_conditional_key_is_swept_even_with_one_value_unless_all_trials_have_it():
    conditional = {"model": {"cnn": {"train.epochs": 5}}}
    space = make_space("dataset=digits", "model=cnn,mlp_keras", conditional=conditional)
    assert space.swept_keys == ("model", "train.epochs")
    assert make_space("model=cnn", "+seed=1,2", conditional=conditional).swept_keys == ("seed",)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("a=true,false", True),
        ("a=0.001,0.1", 1e-3),
        ("a=16,32", 16),
        ("a='x y',z", "x y"),
        ("a=[p,q],[]", "[p,q]"),
        ("a=null,1", None),
        ("+a=1,2", 1),
        ("a=range(1,3)", 1),
    ],
)
def test_a_condition_matches_a_value_in_any_notation(argument, value):
    combinations = list_combinations(argument, conditional={"a": {value: {"b": "7,8"}}})
    assert [len(overrides) for overrides in combinations] == [2, 2, 1]


def test_a_grid_of_billions_of_combinations_starts_immediately():
    start = time.perf_counter()
    source = Grid(make_space("seed=range(1000000)", "model=cnn,mlp_keras", "x=range(1000)", conditional=CONDITIONAL))
    assert source.total == 7 * 10**9
    assert source.propose(0)[0] == "seed=0"
    assert source.propose(source.total - 1) == ["seed=999999", "model=mlp_keras", "model.units=64", "x=999"]
    assert time.perf_counter() - start < 0.5
    with pytest.raises(IndexError):
        source.propose(source.total)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0.001, 0.1)", ("float", 0.001, 0.1, False)),
        ("tag(log, interval(1e-4, 1e-1))", ("float", 1e-4, 1e-1, True)),
        ("int(interval(4, 64))", ("int", 4, 64, False)),
        ("tag(log, int(interval(4, 64)))", ("int", 4, 64, True)),
        ("int(tag(log, interval(4, 64)))", ("int", 4, 64, True)),
    ],
)
def test_intervals_are_parsed(text, expected):
    for space in (make_space(f"a={text}"), make_space("model=cnn", conditional={"model": {"cnn": {"a": text}}})):
        (row,) = space.describe()
        assert (row["kind"], row["low"], row["high"], row["log"]) == expected


def test_names_contain_the_condition_if_a_key_occurs_twice():
    conditional = {"model": {"cnn": {"lr": "interval(0,1)", "f": "1,2"}, "mlp_keras": {"lr": "int(interval(1,9))"}}}
    conditional["f"] = {1: {"r": "range(3,0,-1)"}}
    rows = make_space("model=cnn,mlp_keras", "seed=3", conditional=conditional).describe()
    assert [tuple(row.values()) for row in rows] == [
        ("model", "values", None, None, False, "", ["cnn", "mlp_keras"]),
        ("lr (model=cnn)", "float", 0.0, 1.0, False, "model=cnn", []),
        ("f", "values", None, None, False, "model=cnn", ["1", "2"]),
        ("r", "values", None, None, False, "model=cnn, f=1", ["3", "2", "1"]),
        ("lr (model=mlp_keras)", "int", 1, 9, False, "model=mlp_keras", []),
    ]


@pytest.mark.parametrize(
    ("arguments", "conditional", "message"),
    [
        (["a=interval(0,1)"], {}, "a is an interval; a grid needs a list of values"),
        (["m=x,y"], {"m": {"x": {"a": "interval(0,1)"}}}, "a is an interval"),
        (["a=interval(2,1)"], {}, "from 2.0 to 1.0; expected two finite numbers, the smaller one first"),
        (["a=interval(0,inf)"], {}, "from 0.0 to inf"),
        (["a=tag(log,interval(0,1))"], {}, "is logarithmic and starts at 0.0; expected more than 0"),
        (["a=tag(lgo,interval(1,2))"], {}, "the tag lgo; expected the tag log or no tag"),
        (["a=range(1,1)"], {}, r"range\(1,1\) has no values"),
        (["dataset=glob(nothing*)"], {}, "has no values"),
        (["a=range(1,5,0)"], {}, r"cannot sweep over a=range\(1,5,0\)"),
        (["a=interval(0,1),3"], {}, "inside one value"),
        (["a={b:interval(0,1)}"], {}, "inside one value"),
        (["a=1,2", "a=3"], {}, "a is set twice"),
        (["a=1", "a=3,4"], {}, "a is set twice"),
        (["a=1"], {"a": "1,2"}, "a is set twice"),
        (["m=x,y", "a=1"], {"m": {"x": {"a": "1,2"}}}, "a is set twice"),
        (["m=x,y", "n=1,2"], {"m": {"x": {"a": 1}}, "n": {1: {"a": 2}}}, "a is set twice"),
        (["m=x,y"], {"m": {"x": {"m": "1,2"}}}, "m is set twice"),
        (["m=x,y"], {"m": {"x": {"a": "1,2"}}, "a": {1: {"m": "x"}}}, "m is set twice"),
        (["model=cnn,ols"], {"model": {"cn": {"a": "1,2"}}}, "but model never has this value. Did you mean 'cnn'"),
        (["model=cnn"], {"model": {"ols": {"a": "1,2"}}}, "but model never has this value"),
        (["model=cnn"], {"modle": {"cnn": {"a": "1,2"}}}, "modle is not set. Did you mean 'model'"),
        (["a=interval(0,1)"], {"a": {0: {"b": 1}}}, "but a never has this value. Available: an interval"),
        (["m=x"], {"m": {"x": {"a": [1, 2]}}}, r"sweep.space, m=x: a is \[1, 2\]; expected text, such as '1,2'"),
        (["m=x"], {"m": {"x": {"a": {1: {}}}}}, "conditions are never nested, but at the top level: {a: {VALUE: ...}}"),
        (["m=x"], {"m": {"x": 3}}, "sweep.space, m=x: found 3; expected {KEY: VALUES}"),
        (["m=x"], {"m": {"x": {"a": "interval(0"}}}, r"sweep.space, m=x: a=interval\(0 cannot be parsed"),
        ([], {"a": "nonsense(1)"}, r"sweep.space: a=nonsense\(1\): unknown function nonsense"),
        ([], {"a": "choice()"}, r"a=choice\(\) cannot be parsed .* expected values, such as a=choice\(1,2\)"),
        (["a=interval(1,3)"], {}, "a list of values, such as a=1,3; use such a list or another sweep.sampler"),
        (["a=interval(0.001,3)"], {}, "a list of values, such as a=0.001,3; use such a list or"),
    ],
)
def test_an_invalid_space_is_rejected_in_one_line(arguments, conditional, message):
    with pytest.raises(ConfigError, match=message.replace("{", r"\{")) as raised:
        Grid(make_space(*arguments, conditional=conditional))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
