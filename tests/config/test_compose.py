"""Configurations: every one composes, and mistakes are one line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from hydra.types import RunMode

import expfw
from expfw.api.run_config import to_plain
from expfw.config.compose import compose, freeze_composed
from expfw.config.compose_cache import Composer
from expfw.config.error_messages import one_line_errors
from expfw.config.freeze import build_config, compute_fingerprint
from expfw.config.plugin_source import make_hydra
from expfw.errors import ConfigError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.kinds import KINDS
from expfw.redaction import HIDDEN, redact, redact_overrides

CONF = Path(__file__).resolve().parents[2] / "conf"
REQUIRED = {name: ["dataset.path=somewhere"] for name in ("mnist", "npz", "cifar10")}
REQUIRED["transfer"] = ["callback.transfer.model=somewhere"]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in get_catalogue().list_names(kind)]
)
def test_every_plugin_composes(kind, name):
    group = f"{kind}=[{name}]" if kind in ("callback", "tracker") else f"{kind}={name}"
    config = compose([group, *REQUIRED.get(name, [])])
    node = getattr(config, kind)
    assert (node[name] if kind in ("callback", "tracker") else node)["plugin"] == name


VARIANTS = [p.relative_to(CONF) for p in CONF.rglob("*/*.yaml") if p.parent != CONF]


@pytest.mark.parametrize("path", VARIANTS, ids=str)
def test_every_file_in_conf_composes(path):
    command = (CONF / path).read_text().partition("\n# expfw ")[2].partition("\n")[0]
    needed = [word for word in command.split() if word.partition("=")[2].startswith("FOLDER_")]
    compose([f"{path.parent}={path.stem}", *needed])


def test_a_folder_conf_of_the_working_directory_is_searched(workdir):
    (workdir / "conf" / "model").mkdir(parents=True)
    (workdir / "conf" / "model" / "wide.yaml").write_text("defaults: [mlp_keras]\nunits: 400\n")
    (workdir / "conf" / "experiment").mkdir()
    (workdir / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: wide\ntrain:\n  epochs: 3\n"
    )
    assert compose(["model=wide"]).model["units"] == 400
    config = compose(["experiment=mine", "seed=4"])
    assert (config.model["units"], config.model["plugin"], config.train.epochs, config.seed) == (400, "mlp_keras", 3, 4)


def test_several_callbacks_by_name():
    default = ["checkpoint", "system_metrics", "classification_report", "pictures"]
    assert list(compose([]).callback) == default
    assert list(compose(["callback=[]"]).callback) == []
    assert list(compose(["callback=[early_stopping]"]).callback) == ["early_stopping"]
    assert list(compose(["+callback=tensorboard"]).callback) == [*default, "tensorboard"]
    assert compose(["callback.checkpoint.keep=7"]).callback["checkpoint"]["keep"] == 7


MISTAKES = {
    "model=mlp_kers": "no model plugin 'mlp_kers'. Did you mean 'mlp_keras'?",
    "callback=[checkpoint,checkpoint]": "callback 'checkpoint' is chosen twice",
    "model.optimizer.learning_rate=-1": "model.optimizer.learning_rate is -1.0; expected 0 or more",
    "callback=[checkpont]": "no callback plugin 'checkpont'. Did you mean 'checkpoint'?",
    "model.unitz=3": "no option 'model.unitz' of model plugin 'mlp_keras'. Did you mean 'model.units'?",
    "model.units=abc": "model.units is 'abc'; expected a whole number",
    "model.dropout=1.5": "model.dropout is 1.5; expected 0 or more and below 1",
    "+model.foo=1": "no option model.foo.",
    "model.plugin=x": "choose a model with model=NAME",
    "trainn.epochs=3": "no option 'trainn.epochs'. Did you mean 'train.epochs'?",
    "modell=x": "no option 'modell'. Did you mean 'model'?",
    "train.epochs=0": "train.epochs is 0; expected 1 or more",
    "train.batch_size=-1": "train.batch_size is -1; expected 1 or more",
    "train.evaluate_every.steps=0": "train.evaluate_every.steps is 0; expected 1 or more",
    "train.test_on=frist": "train.test_on is 'frist'; expected one of last, best",
    "objective.mode=minimum": "objective.mode is 'minimum'; expected one of min, max",
    "dataset=mnist": "dataset.path has no value; give one, with dataset.path=VALUE",
    "dataset.validation=1.5": "dataset.validation is 1.5; expected a share below 1, or a whole number of samples",
    "sweep.slots=0": "sweep.slots is 0; expected 1 or more",
    "model=null": "a group takes the name of a choice, such as model=mlp_keras",
    "model.units=null": "model.units is null; expected a value",
    "model.optimizer=adam": "model.optimizer is 'adam'; expected the options of Optimizer",
    "train.class_weight={1: 3.0}": "train.class_weight takes new entries with +: +train.class_weight={NAME: VALUE}",
    "model.optimizer.options.x=1": "takes new ones with +model.optimizer.options.x=VALUE",
    "experiment=nonsense": "no experiment 'nonsense'.",
    "runs_dir=": "runs_dir is empty",
    "nonsense": "nonsense has no value; expected KEY=VALUE",
    "seed=1,2": "`expfw sweep` tries each",
    "seed=${oc.env:NO_SUCH_VARIABLE_HERE}": "NO_SUCH_VARIABLE_HERE",
}


@pytest.mark.parametrize(("override", "expected"), MISTAKES.items())
def test_a_mistake_is_one_line_and_leaves_nothing_behind(override, expected, expfw_here, workdir):
    done = expfw_here("run", override)
    assert done.code == 2
    assert expected in done.err
    assert done.err.startswith("expfw: ")
    assert done.err.count("\n") == 1
    assert list(workdir.iterdir()) == []


def test_the_configuration_is_frozen():
    config = compose([])
    with pytest.raises(AttributeError):
        config.seed = 3
    with pytest.raises(AttributeError):
        config.train.epochs = 3


def test_cfg_prints_what_a_file_can_hold(expfw_here):
    done = expfw_here("run", "model.units=3", "--cfg", "job")
    assert done.code == 0
    assert yaml.safe_load(done.out)["model"]["units"] == 3
    assert expfw_here("run", "model.unitz=3", "--cfg", "job").code == 2
    assert "expfw://" in expfw_here("run", "--info", "searchpath").out


def test_the_fingerprint_knows_what_matters_for_the_result():
    marks = [
        compute_fingerprint(compose(list(o)), data)
        for o, data in [
            ((), {}),
            (("seed=1",), {}),
            (("model.units=51",), {}),
            ((), {"size": 1}),
        ]
    ]
    assert all(a != b for a, b in itertools.combinations(marks, 2))
    same = ("runs_dir=elsewhere", "name=x", "+tags.a=b", "tracker=[]", "quiet=true", "sweep.slots=3")
    assert compute_fingerprint(compose(list(same)), {}) == marks[0]


def test_secrets_are_hidden():
    values = {"tracker": {"db": {"password": "x", "api_key": "y", "user": "me", "token": None}}, "seeds": [1]}
    hidden = {"tracker": {"db": {"password": HIDDEN, "api_key": HIDDEN, "user": "me", "token": None}}, "seeds": [1]}
    assert redact(values) == hidden
    assert redact_overrides(["+a.password=x", "model.units=3"]) == [f"+a.password={HIDDEN}", "model.units=3"]


def test_the_plain_form_comes_back_as_it_was():
    config = compose(["model.units=3", "train.steps=7"])
    assert build_config(to_plain(config)) == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "units: 64\n",
            r"model=wide: model/wide.yaml names no plugin; expected at its top `defaults: \[mlp_keras\]`, or",
        ),
        (
            "_target_: my.Net\nunits: 64\n",
            r"names no plugin; its _target_ is not used here.* `defaults: \[mlp_keras\]`",
        ),
        ("defaults: [mlp_keras]\n_target_: my.Net\n", "model: its _target_ is not used here.*; take it out"),
    ],
)
def test_a_file_that_names_no_plugin_or_a_class_is_told_what_to_name(workdir, text, expected):
    (workdir / "conf" / "model").mkdir(parents=True)
    (workdir / "conf" / "model" / "wide.yaml").write_text(text)
    with pytest.raises(expfw.ConfigError, match=expected):
        compose(["model=wide"])


def test_plugin_error_through_hydra_keeps_its_text(workdir):
    (workdir / "odd.py").write_text(
        "from dataclasses import dataclass\nimport expfw\n"
        "class Odd(expfw.Model):\n    @dataclass\n    class Config:\n        both: 'int | str' = 1\n"
    )
    with pytest.raises(expfw.PluginError, match=r"Odd\.Config\.both has the type"):
        compose(["model=odd"], get_catalogue((str(workdir / "odd.py"),)))


def test_options_of_a_recipe_for_a_callback_that_was_replaced_have_no_effect():
    recipe = ["experiment=gradient_parts"]
    assert compose(recipe).callback["gradients"]["every"] == 10
    assert list(compose([*recipe, "callback=[pictures]"]).callback) == ["pictures"]
    assert compose([*recipe, "callback=[]"]).callback == {}
    with pytest.raises(expfw.ConfigError, match=r"callback 'gradients' is not chosen; add it with"):
        compose([*recipe, "callback=[]", "callback.gradients.every=3"])


def test_a_recipe_with_options_for_a_callback_that_nobody_chose_is_refused(workdir):
    (workdir / "conf" / "experiment").mkdir(parents=True)
    (workdir / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ncallback:\n  early_stopping: {patience: 3}\n"
    )
    with pytest.raises(expfw.ConfigError, match=r"is not chosen; add it with \+callback=early_stopping"):
        compose(["experiment=mine"])


def test_a_single_value_for_a_list_is_told_how_to_write_it():
    with pytest.raises(
        expfw.ConfigError, match=r"model\.filters is 32; expected a list, such as model\.filters=\[32\]"
    ):
        compose(["model=cnn", "model.filters=32"])


LIKE = [
    (["model=ols", "dataset=line", "seed=1"], ["model=ols", "dataset=line", "seed=2"]),
    (["name=a", "seed=${train.epochs}"], ["name='b c'", "seed=5"]),
    (["model=mlp_keras", "model.units=8", "dataset=digits"], ["model=mlp_keras", "model.units=16", "dataset=digits"]),
    (["model.optimizer.learning_rate=0.1", "name=null"], ["model.optimizer.learning_rate=1e-3", "name=x"]),
]
UNLIKE = [
    (["model=mlp_keras", "seed=1"], ["model=mlp_layers", "seed=1"]),
    (["model=mlp_keras", "model.units=8"], ["model=mlp_layers", "model.units=16"]),
    (["callback=[checkpoint]"], ["callback=[early_stopping]"]),
    (["train={epochs:3}", "train.epochs=4"], ["train={epochs:2}", "train.steps=5"]),
    (["+tags={a:1}"], ["+tags={a:2}"]),
    (["seed=1", "train.epochs=2"], ["seed=1", "train.batch_size=2"]),
]


@pytest.mark.parametrize(("first", "second"), LIKE + UNLIKE, ids=str)
def test_a_sweep_composes_once_what_is_alike_with_the_same_outcome(first, second):
    composed = []

    def compose_anew(overrides):
        composed.append(overrides)
        return make_hydra(get_catalogue()).compose_config("config", list(overrides), RunMode.RUN)

    composer = Composer(compose_anew)
    for overrides in (first, second, first):
        assert freeze_composed(composer(overrides), get_catalogue()) == compose(overrides)
    assert composed == ([first] if (first, second) in LIKE else [first, second])


def test_what_is_alike_but_wrong_is_refused_as_ever():
    composer = Composer(
        lambda overrides: make_hydra(get_catalogue()).compose_config("config", list(overrides), RunMode.RUN)
    )
    composer(["seed=1", "train.epochs=2"])
    with pytest.raises(ConfigError), one_line_errors(["seed=1", "train.epochs=many"], get_catalogue()):
        composer(["seed=1", "train.epochs=many"])
