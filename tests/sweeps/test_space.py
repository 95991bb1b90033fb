"""The space of a sweep: Hydra's syntax, conditions, numbers of combinations, and rejected spaces."""

from __future__ import annotations

import itertools
import time

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from expfw.config.plugin_source import make_hydra
from expfw.errors import ConfigError
from expfw.plugins.catalogue import get_catalogue
from expfw.sweeps.search.grid import Grid
from expfw.sweeps.search.space import Interval
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


def test_conditional_overrides_come_directly_after_their_choice():
    expected = [
        ["dataset=digits", "model=cnn", f"model.filters={f}", f"model.dropout={d}", f"seed={s}"]
        for f, d, s in itertools.product([8, 16], [0.1, 0.5], [1, 2])
    ]
    expected += [
        ["dataset=digits", "model=mlp_keras", f"model.units={u}", f"seed={s}"]
        for u, s in itertools.product([16, 32, 64], [1, 2])
    ]
    assert list_combinations("dataset=digits", "model=cnn,mlp_keras", "seed=1,2", conditional=CONDITIONAL) == expected


def test_a_choice_without_conditions_is_one_combination():
    combinations = list_combinations("model=ols,cnn,mlp_keras,ols", conditional=CONDITIONAL)
    assert combinations[0] == combinations[-1] == ["model=ols"]
    assert len(combinations) == 1 + 4 + 3 + 1


def test_conditions_can_depend_on_conditional_values():
    conditional = {
        "model": {"cnn": {"model.optimizer.name": "sgd,adam"}, "mlp_keras": {"model.optimizer.name": "sgd"}},
        "model.optimizer.name": {"sgd": {"model.optimizer.momentum": "0,0.9"}},
        "model.optimizer.momentum": {0: {"model.optimizer.learning_rate": "0.1,0.2"}},
    }
    momenta = [
        ["model.optimizer.momentum=0", "model.optimizer.learning_rate=0.1"],
        ["model.optimizer.momentum=0", "model.optimizer.learning_rate=0.2"],
        ["model.optimizer.momentum=0.9"],
    ]
    assert list_combinations("model=cnn,mlp_keras", conditional=conditional) == [
        *(["model=cnn", "model.optimizer.name=sgd", *momentum] for momentum in momenta),
        ["model=cnn", "model.optimizer.name=adam"],
        *(["model=mlp_keras", "model.optimizer.name=sgd", *momentum] for momentum in momenta),
    ]


def test_a_condition_on_a_fixed_value_applies_to_all_trials():
    space = make_space(
        "model=mlp_keras", "seed=1,2", conditional={"model": {"mlp_keras": {"model.units": "1,2", "x": 3}}}
    )
    assert space.get_overrides(3) == ["model=mlp_keras", "model.units=2", "x=3", "seed=2"]
    assert space.fixed_overrides == ["model=mlp_keras", "x=3"]
    assert space.swept_keys == ("model.units", "seed")


def test_a_conditional_key_is_swept_even_with_one_value():
    space = make_space("dataset=digits", "model=cnn,mlp_keras", conditional={"model": {"cnn": {"train.epochs": 5}}})
    assert space.fixed_overrides == ["dataset=digits"]
    assert space.swept_keys == ("model", "train.epochs")


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


def test_entries_without_condition_come_after_the_command_line():
    assert list_combinations("seed=1,2", conditional={"train.batch_size": "16,32", "train.epochs": 3}) == [
        ["seed=1", "train.batch_size=16", "train.epochs=3"],
        ["seed=1", "train.batch_size=32", "train.epochs=3"],
        ["seed=2", "train.batch_size=16", "train.epochs=3"],
        ["seed=2", "train.batch_size=32", "train.epochs=3"],
    ]


def test_yaml_values_of_all_types_are_accepted():
    conditional = {"a": None, "b": True, "c": 0.5, "d": "[1,2],[3]"}
    assert list_combinations(conditional=conditional)[0] == ["a=null", "b=True", "c=0.5", "d=[1,2]"]


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
        ("interval(0.001, 0.1)", Interval(0.001, 0.1)),
        ("tag(log, interval(1e-4, 1e-1))", Interval(1e-4, 1e-1, log=True)),
        ("int(interval(4, 64))", Interval(4, 64, is_integer=True)),
        ("tag(log, int(interval(4, 64)))", Interval(4, 64, is_integer=True, log=True)),
        ("int(tag(log, interval(4, 64)))", Interval(4, 64, is_integer=True, log=True)),
    ],
)
def test_intervals_are_parsed(text, expected):
    (dimension,) = make_space(f"a={text}").dimensions
    assert dimension.values == expected
    assert make_space("model=cnn", conditional={"model": {"cnn": {"a": text}}}).all_dimensions[1].values == expected


def test_the_text_of_a_number_is_parsed_to_the_same_number():
    for value in (0.1 + 0.2, 1e-5, 1e22, 2 / 3, 5e-324, 3.0):
        (read,) = parse(f"a={Interval(0, 1).format_value(value)}")
        assert read.value() == value
        assert isinstance(read.value(), float)
    assert Interval(1, 5, is_integer=True).format_value(3) == "3"


def test_names_contain_the_condition_if_a_key_occurs_twice():
    conditional = {"model": {"cnn": {"lr": "interval(0,1)", "f": "1,2"}, "mlp_keras": {"lr": "int(interval(1,9))"}}}
    rows = make_space("model=cnn,mlp_keras", "seed=3", conditional=conditional).describe()
    assert [(row.name, row.kind, row.low, row.high, list(row.values), row.condition) for row in rows] == [
        ("model", "values", None, None, ["cnn", "mlp_keras"], ""),
        ("lr (model=cnn)", "float", 0.0, 1.0, [], "model=cnn"),
        ("f", "values", None, None, ["1", "2"], "model=cnn"),
        ("lr (model=mlp_keras)", "int", 1, 9, [], "model=mlp_keras"),
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
        (["m=x"], {"m": {"x": {"a": [1, 2]}}}, "sweep.space, m=x: a is a list; expected text, such as '1,2'"),
        (["m=x"], {"m": {"x": {"a": {1: {}}}}}, "write them at the top level of sweep.space"),
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
