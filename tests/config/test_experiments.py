"""Recipes in conf/experiment: each runs a few steps, and its first comments are complete."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from support.small_datasets import write_cifar, write_mnist

import expfw
from expfw.tracking import journal

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
NAMES = [file.stem for file in FILES]
SOURCES = ("NTHU EE3700", "UChicago", "NTU", "Purdue", "Beyond the sources")
SMALLER = {
    "alexnet": ("dataset.samples=4", "train.steps=1", "train.batch_size=2"),
    "cnn_augmented": ("callback.augmentation.copies=1",),
    "cnn_multi_device": ("backend.cpus=2",),
    "polynomial": ("train.evaluate_every.steps=2",),
    "polynomial_samples": ("train.evaluate_every.steps=2",),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder / "mnist")
    write_cifar(folder / "cifar10")
    return folder


@pytest.fixture(scope="module")
def source_network(data, tmp_path_factory, processors):
    """Returns the folder of a run of transfer_source, the source of transfer."""
    from expfw.config.compose import compose
    from expfw.runs.one_run import execute
    from expfw.runs.request import prepare_run

    overrides = (*quick("transfer_source", data), "tracker=[]", f"runs_dir={tmp_path_factory.mktemp('source')}")
    config = compose(overrides)
    return execute(prepare_run(config)).folder


def quick(name, data):
    """Returns overrides for a few steps on small data."""
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    overrides = [f"experiment={name}", "train.steps=3", "train.batch_size=10", "train.log_every=1"]
    if "FOLDER_WITH" in text:
        folder = "cifar10" if "FOLDER_WITH_CIFAR10" in text else "mnist"
        overrides += [f"dataset.path={data / folder}", "dataset.validation=20"]
    return [*overrides, *SMALLER.get(name, ())]


def _slow(name):
    return [pytest.mark.slow] if name.startswith(("alexnet", "cnn_", "transfer")) else []


@pytest.mark.parametrize("name", [pytest.param(name, marks=_slow(name)) for name in NAMES])
def test_each_recipe_runs_a_few_steps(train, data, name, request):
    overrides = quick(name, data)
    if name == "transfer":
        overrides.append(f"callback.transfer.model={request.getfixturevalue('source_network')}")
    result = train(*overrides)
    assert result.status == "FINISHED"
    assert result.warnings == ()
    records, _ = journal.read_records(result.folder / journal.NAME)
    losses = [r["values"]["train/loss"] for r in records if "train/loss" in r.get("values", {})]
    assert len(losses) == result.steps
    saved = expfw.load_model(result.folder / "model")
    output = saved.predict(np.ones((2, *saved.data.input_shape)))
    assert len(output) == 2
    assert np.isfinite(output).all()


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_the_first_comments_of_a_recipe_are_its_command_and_source(file):
    package, command, source, *_ = file.read_text().splitlines()
    assert package == "# @package _global_"
    words = shlex.split(command.removeprefix("# "))
    assert words[0] == "expfw"
    assert words[1] in ("run", "sweep", "show")
    assert words[2] == f"experiment={file.stem}"
    assert source.startswith(tuple(f"# {name}" for name in SOURCES))


def test_the_benchmark_and_the_documentation_contain_every_recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "recipes"))
    from checks import RECIPES

    assert {*RECIPES, "transfer_source"} == set(NAMES)  # transfer runs its source itself
    for name, recipe in RECIPES.items():
        command = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()[1]
        file_words, benchmark_words = (set(shlex.split(c.removeprefix("# "))) for c in (command, recipe.command))
        assert file_words == benchmark_words
    page = (ROOT / "docs" / "guide" / "recipes.md").read_text()
    assert all(f"## {name}\n" in page for name in RECIPES)
