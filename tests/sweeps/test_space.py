"""The space of a sweep: Hydra's syntax, conditions, numbers of combinations, and what is refused."""

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


def parsed(*arguments):
    return OverridesParser.create(config_loader=make_hydra(get_catalogue()).config_loader).parse_overrides(
        list(arguments)
    )


def space(*arguments, conditional=None, seed=0):
    return read_space(parsed(*arguments), conditional or {}, seed)


def grid(*arguments, conditional=None, seed=0):
    made = Grid(space(*arguments, conditional=conditional, seed=seed))
    return [list(made.propose(number)) for number in range(made.total)]


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
def test_a_grid_is_in_the_order_of_hydras_own(arguments):
    (expected,) = BasicSweeper.split_arguments(parsed(*arguments), max_batch_size=None)
    assert grid(*arguments) == expected


def test_a_shuffle_is_another_for_each_seed_and_always_the_same():
    first = grid("a=shuffle(range(20))", "b=shuffle(1,2,3,4,5,6,7)", seed=1)
    assert first == grid("a=shuffle(range(20))", "b=shuffle(1,2,3,4,5,6,7)", seed=1)
    assert first != grid("a=shuffle(range(20))", "b=shuffle(1,2,3,4,5,6,7)", seed=2)
    assert first != grid("a=range(20)", "b=1,2,3,4,5,6,7")
    assert sorted(first) == sorted(grid("a=range(20)", "b=1,2,3,4,5,6,7"))


def test_what_depends_on_a_choice_stands_behind_it_and_only_there():
    expected = [
        ["dataset=digits", "model=cnn", f"model.filters={f}", f"model.dropout={d}", f"seed={s}"]
        for f, d, s in itertools.product([8, 16], [0.1, 0.5], [1, 2])
    ]
    expected += [
        ["dataset=digits", "model=mlp_keras", f"model.units={u}", f"seed={s}"]
        for u, s in itertools.product([16, 32, 64], [1, 2])
    ]
    assert grid("dataset=digits", "model=cnn,mlp_keras", "seed=1,2", conditional=CONDITIONAL) == expected


def test_a_choice_without_conditions_of_its_own_is_tried_once():
    made = grid("model=ols,cnn,mlp_keras,ols", conditional=CONDITIONAL)
    assert made[0] == made[-1] == ["model=ols"]
    assert len(made) == 1 + 4 + 3 + 1


def test_conditions_upon_conditions():
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
    assert grid("model=cnn,mlp_keras", conditional=conditional) == [
        *(["model=cnn", "model.optimizer.name=sgd", *momentum] for momentum in momenta),
        ["model=cnn", "model.optimizer.name=adam"],
        *(["model=mlp_keras", "model.optimizer.name=sgd", *momentum] for momentum in momenta),
    ]


def test_a_condition_on_what_is_the_same_for_all():
    made = space("model=mlp_keras", "seed=1,2", conditional={"model": {"mlp_keras": {"model.units": "1,2", "x": 3}}})
    assert made.get_overrides(3) == ["model=mlp_keras", "model.units=2", "x=3", "seed=2"]
    assert made.fixed_overrides == ["model=mlp_keras", "x=3"]
    assert made.swept_keys == ("model.units", "seed")


def test_what_some_jobs_lack_is_swept_even_with_one_value():
    made = space("dataset=digits", "model=cnn,mlp_keras", conditional={"model": {"cnn": {"train.epochs": 5}}})
    assert made.fixed_overrides == ["dataset=digits"]
    assert made.swept_keys == ("model", "train.epochs")


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
def test_a_condition_names_a_value_however_it_is_written(argument, value):
    made = grid(argument, conditional={"a": {value: {"b": "7,8"}}})
    assert [len(overrides) for overrides in made] == [2, 2, 1]


def test_entries_without_condition_come_behind_the_command_line():
    assert grid("seed=1,2", conditional={"train.batch_size": "16,32", "train.epochs": 3}) == [
        ["seed=1", "train.batch_size=16", "train.epochs=3"],
        ["seed=1", "train.batch_size=32", "train.epochs=3"],
        ["seed=2", "train.batch_size=16", "train.epochs=3"],
        ["seed=2", "train.batch_size=32", "train.epochs=3"],
    ]


def test_values_of_yaml_that_are_no_text():
    conditional = {"a": None, "b": True, "c": 0.5, "d": "[1,2],[3]"}
    assert grid(conditional=conditional)[0] == ["a=null", "b=True", "c=0.5", "d=[1,2]"]


def test_a_thousand_million_combinations_begin_at_once():
    began = time.perf_counter()
    made = Grid(space("seed=range(1000000)", "model=cnn,mlp_keras", "x=range(1000)", conditional=CONDITIONAL))
    assert made.total == 7 * 10**9
    assert made.propose(0)[0] == "seed=0"
    assert made.propose(made.total - 1) == ["seed=999999", "model=mlp_keras", "model.units=64", "x=999"]
    assert time.perf_counter() - began < 0.5
    with pytest.raises(IndexError):
        made.propose(made.total)


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
def test_intervals(text, expected):
    (dimension,) = space(f"a={text}").dimensions
    assert dimension.values == expected
    assert space("model=cnn", conditional={"model": {"cnn": {"a": text}}}).all_dimensions[1].values == expected


def test_the_text_of_a_number_is_that_number():
    for value in (0.1 + 0.2, 1e-5, 1e22, 2 / 3, 5e-324, 3.0):
        (read,) = parsed(f"a={Interval(0, 1).format_value(value)}")
        assert read.value() == value
        assert isinstance(read.value(), float)
    assert Interval(1, 5, is_integer=True).format_value(3) == "3"


def test_names_tell_conditions_apart_where_a_key_comes_twice():
    conditional = {"model": {"cnn": {"lr": "interval(0,1)", "f": "1,2"}, "mlp_keras": {"lr": "int(interval(1,9))"}}}
    rows = space("model=cnn,mlp_keras", "seed=3", conditional=conditional).describe()
    assert [(row.name, row.kind, row.low, row.high, list(row.values), row.condition) for row in rows] == [
        ("model", "values", None, None, ["cnn", "mlp_keras"], ""),
        ("lr (model=cnn)", "float", 0.0, 1.0, [], "model=cnn"),
        ("f", "values", None, None, ["1", "2"], "model=cnn"),
        ("lr (model=mlp_keras)", "int", 1, 9, [], "model=mlp_keras"),
    ]


@pytest.mark.parametrize(
    ("arguments", "conditional", "words"),
    [
        (["a=interval(0,1)"], {}, "a is an interval, of which a grid cannot try every value"),
        (["m=x,y"], {"m": {"x": {"a": "interval(0,1)"}}}, "a is an interval"),
        (["a=interval(2,1)"], {}, "from 2.0 to 1.0; expected the smaller number first"),
        (["a=interval(0,inf)"], {}, "from 0.0 to inf"),
        (["a=tag(log,interval(0,1))"], {}, "logarithmic from 0.0; expected more than 0"),
        (["a=tag(lgo,interval(1,2))"], {}, "the tag lgo; expected no tag, or log"),
        (["a=range(1,1)"], {}, r"range\(1,1\) has no values"),
        (["dataset=glob(nothing*)"], {}, "has no values"),
        (["a=range(1,5,0)"], {}, "cannot be swept over"),
        (["a=interval(0,1),3"], {}, "within a value"),
        (["a={b:interval(0,1)}"], {}, "within a value"),
        (["a=1,2", "a=3"], {}, "a is given twice"),
        (["a=1", "a=3,4"], {}, "a is given twice"),
        (["a=1"], {"a": "1,2"}, "a is given twice"),
        (["m=x,y", "a=1"], {"m": {"x": {"a": "1,2"}}}, "a is given twice"),
        (["m=x,y", "n=1,2"], {"m": {"x": {"a": 1}}, "n": {1: {"a": 2}}}, "a is given twice"),
        (["m=x,y"], {"m": {"x": {"m": "1,2"}}}, "m is given twice"),
        (["m=x,y"], {"m": {"x": {"a": "1,2"}}, "a": {1: {"m": "x"}}}, "m is given twice"),
        (["model=cnn,ols"], {"model": {"cn": {"a": "1,2"}}}, "model=cn, which model never is. Did you mean 'cnn'"),
        (["model=cnn"], {"model": {"ols": {"a": "1,2"}}}, "which model never is"),
        (["model=cnn"], {"modle": {"cnn": {"a": "1,2"}}}, "modle is not given. Did you mean 'model'"),
        (["a=interval(0,1)"], {"a": {0: {"b": 1}}}, "which a never is. It is: an interval"),
        (["m=x"], {"m": {"x": {"a": [1, 2]}}}, "sweep.space, m=x: a is a list; expected text, such as '1,2'"),
        (["m=x"], {"m": {"x": {"a": {1: {}}}}}, "write them beside the others"),
        (["m=x"], {"m": {"x": 3}}, "sweep.space, m=x: found 3; expected {KEY: VALUES}"),
        (["m=x"], {"m": {"x": {"a": "interval(0"}}}, r"sweep.space, m=x: a=interval\(0 cannot be read"),
        ([], {"a": "nonsense(1)"}, r"sweep.space: a=nonsense\(1\): there is no nonsense"),
        ([], {"a": "choice()"}, r"a=choice\(\) cannot be read .* expected values, such as a=choice\(1,2\)"),
        (["a=interval(1,3)"], {}, "list some, such as a=1,3, or take another sweep.sampler"),
        (["a=interval(0.001,3)"], {}, "list some, such as a=0.001,3, or"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, conditional, words):
    with pytest.raises(ConfigError, match=words.replace("{", r"\{")) as raised:
        Grid(space(*arguments, conditional=conditional))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
