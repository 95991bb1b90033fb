"""Composition of configurations, and one-line errors for invalid ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from hydra.types import RunMode

import expfw
from expfw.api.run_config import to_plain
from expfw.config.compose import Composition, compose, freeze_composed
from expfw.config.compose_cache import Composer
from expfw.config.freeze import build_config, compute_fingerprint, drop_code
from expfw.config.plugin_source import make_hydra
from expfw.errors import ConfigError
from expfw.plugins.catalogue import get_catalogue
from expfw.plugins.kinds import KINDS
from expfw.redaction import HIDDEN, redact_options, redact_overrides

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


def write_conf(name, text):
    file = Path("conf", f"{name}.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_conf_folder_of_the_working_directory_is_searched(workdir):
    write_conf("model/wide", "defaults: [mlp_keras]\nunits: 400\n")
    recipe = "# @package _global_\ndefaults:\n  - override /model: wide\ntrain:\n  epochs: 3\n"
    write_conf("experiment/mine", recipe)
    assert compose(["model=wide"]).model["units"] == 400
    config = compose(["experiment=mine", "seed=4"])
    assert (config.model["units"], config.model["plugin"], config.train.epochs, config.seed) == (400, "mlp_keras", 3, 4)


def test_an_option_with_free_keys_accepts_new_ones():
    overrides = ["train.class_weight={1: 3.0}", "tags.who=me", "model.optimizer.options.nesterov=true"]
    config = compose(overrides)
    assert (config.train.class_weight, config.tags) == ({"1": 3.0}, {"who": "me"})
    assert config.model["optimizer"]["options"] == {"nesterov": True}


def test_callbacks_are_selected_by_name():
    default = ["checkpoint", "system_metrics", "classification_report", "pictures"]
    assert list(compose([]).callback) == default
    assert list(compose(["callback=[]"]).callback) == []
    assert list(compose(["callback=[early_stopping]"]).callback) == ["early_stopping"]
    assert list(compose(["+callback=tensorboard"]).callback) == [*default, "tensorboard"]
    assert compose(["callback.checkpoint.keep=7"]).callback["checkpoint"]["keep"] == 7


def test_an_invalid_override_writes_no_files(expfw_here, workdir):
    assert expfw_here("run", "epochs=3").code == 2
    assert list(workdir.iterdir()) == []


def test_the_configuration_is_frozen():
    config = compose([])
    for part, name in ((config, "seed"), (config.train, "epochs")):
        with pytest.raises(AttributeError):
            setattr(part, name, 3)


def test_cfg_prints_valid_yaml(expfw_here):
    done = expfw_here("run", "model.units=3", "--cfg", "job")
    assert done.code == 0
    assert yaml.safe_load(done.out)["model"]["units"] == 3
    assert expfw_here("run", "model.unitz=3", "--cfg", "job").code == 2
    assert "expfw://" in expfw_here("run", "--info", "searchpath").out


def test_the_fingerprint_depends_only_on_options_that_affect_the_result():
    setups = [([], {}), (["seed=1"], {}), (["model.units=51"], {}), ([], {"size": 1})]
    fingerprints = [compute_fingerprint(compose(overrides), data) for overrides, data in setups]
    assert all(a != b for a, b in itertools.combinations(fingerprints, 2))
    same = ["runs_dir=elsewhere", "name=x", "+tags.a=b", "tracker=[]", "quiet=true", "sweep.slots=3"]
    assert compute_fingerprint(compose(same), {}) == fingerprints[0]
    codes = [{"pkg": "1", "x.py": "2"}, {"pkg": "3", "x.py": "2"}, {"pkg": "1", "moved.py": "2"}]
    first, other, moved = (compute_fingerprint(compose([]), {}, code) for code in codes)
    assert first == moved != other
    assert {drop_code(first), drop_code(other)} == {fingerprints[0]}


def test_secrets_are_hidden():
    values = {"tracker": {"db": {"password": "x", "api_key": "y", "user": "me", "token": None}}, "seeds": [1]}
    hidden = {"tracker": {"db": {"password": HIDDEN, "api_key": HIDDEN, "user": "me", "token": None}}, "seeds": [1]}
    assert redact_options(values) == hidden
    assert redact_overrides(["+a.password=x", "model.units=3"]) == [f"+a.password={HIDDEN}", "model.units=3"]


def test_build_config_restores_the_plain_form():
    config = compose(["model.units=3", "train.steps=7"])
    assert build_config(to_plain(config)) == config


RECIPE = "# @package _global_\ncallback: {early_stopping: {patience: 3}}\n"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("model/mine", "units: 64\n", r"no model plugin is selected; .* `defaults: \[PLUGIN\]` in your file"),
        ("model/mine", "defaults: [mlp_keras]\n_target_: my.Net\n", r"unknown option 'model._target_' of"),
        ("experiment/mine", RECIPE, r"is not selected; add it with \+callback=early_stopping"),
    ],
)
def test_an_invalid_variant_or_recipe_is_rejected_with_the_fix(workdir, file, text, expected):
    write_conf(file, text)
    with pytest.raises(expfw.ConfigError, match=expected):
        compose([file.replace("/", "=")])


def test_options_of_a_recipe_for_a_replaced_callback_have_no_effect():
    recipe = ["experiment=gradient_parts"]
    assert compose(recipe).callback["gradients"]["every"] == 10
    assert list(compose([*recipe, "callback=[pictures]"]).callback) == ["pictures"]
    assert compose([*recipe, "callback=[]"]).callback == {}
    with pytest.raises(expfw.ConfigError, match=r"callback 'gradients' is not selected; add it with"):
        compose([*recipe, "callback=[]", "callback.gradients.every=3"])


SAME_EXCEPT_VALUES = [
    (["model=ols", "dataset=line", "seed=1"], ["model=ols", "dataset=line", "seed=2"]),
    (["name=a", "seed=${train.epochs}"], ["name='b c'", "seed=5"]),
    (["model=mlp_keras", "model.units=8", "dataset=digits"], ["model=mlp_keras", "model.units=16", "dataset=digits"]),
    (["model.optimizer.learning_rate=0.1", "name=null"], ["model.optimizer.learning_rate=1e-3", "name=x"]),
]
DIFFERENT = [
    (["model=mlp_keras", "seed=1"], ["model=mlp_layers", "seed=1"]),
    (["model=mlp_keras", "model.units=8"], ["model=mlp_layers", "model.units=16"]),
    (["callback=[checkpoint]"], ["callback=[early_stopping]"]),
    (["train={epochs:3}", "train.epochs=4"], ["train={epochs:2}", "train.steps=5"]),
    (["+tags={a:1}"], ["+tags={a:2}"]),
    (["seed=1", "train.epochs=2"], ["seed=1", "train.batch_size=2"]),
]


@pytest.mark.parametrize(("first", "second"), SAME_EXCEPT_VALUES + DIFFERENT, ids=str)
def test_a_sweep_composes_trials_that_differ_in_values_once_with_the_same_result(first, second):
    composed = []

    def compose_and_record(overrides):
        composed.append(overrides)
        return make_hydra(get_catalogue()).compose_config("config", list(overrides), RunMode.RUN)

    composer = Composer(compose_and_record)
    for overrides in (first, second, first):
        assert freeze_composed(composer(overrides), get_catalogue()) == compose(overrides)
    assert composed == ([first] if (first, second) in SAME_EXCEPT_VALUES else [first, second])


def test_an_invalid_value_of_a_cached_configuration_is_rejected():
    with Composition([]).open_sweep() as composition:
        composition.compose_trial(["seed=1", "train.epochs=2"])
        with pytest.raises(ConfigError, match=r"train\.epochs is 'many'; expected a whole number"):
            composition.compose_trial(["seed=1", "train.epochs=many"])
