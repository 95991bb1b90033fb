"""The built-in plugins pass the public contracts."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from conftest import ROOT
from support.contracts import CONTRACTS
from support.small_datasets import write_cifar, write_mnist

import expfw
from expfw.plugins.catalogue import get_catalogue
from expfw.testing import Bench, ModelContract, small_data

pytestmark = pytest.mark.usefixtures("processors")

CSV_FILE = str(ROOT / "docs" / "authors" / "examples" / "csv_tracker.py")
CATALOGUE = get_catalogue((CSV_FILE,))


def make_contract(key, **attributes):
    kind, _, name = key.partition("/")
    return type(f"Test_{name}", (CONTRACTS[kind],), {"plugin": CATALOGUE.get(kind, name).load(), **attributes})


def write_arrays(folder):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 3)).astype(np.float32), generator.integers(0, 2, 40)
    np.savez(folder / "arrays.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder / "arrays.npz"


def train_source(self, folder):
    overrides = ["dataset=small_data", "train.epochs=1", "tracker=[]", "callback=[]"]
    trained = expfw.run(overrides, files=[small_data.__file__], runs_dir=folder, quiet=True)
    return {"layers": 1, "model": str(trained.folder)}


def read_mlflow_points(self, tracker, runs_dir, state):
    names = tracker.client.get_run(state["run_id"]).data.metrics
    points = ((name, tracker.client.get_metric_history(state["run_id"], name)) for name in names)
    return [(name, point.step, point.value) for name, history in points for point in history]


def read_csv_points(self, tracker, runs_dir, state):
    rows = csv.reader((tracker.folder / f"{state['run']}.csv").read_text().splitlines()[1:])
    return [(name, int(step), float(value)) for step, name, value in rows]


WITHOUT_NOISE = {"without_noise": {"dropout": 0.0}}
CNN = {"filters": (4,), "dense": (8,), "kernel": 3, "optimizer.learning_rate": 0.01}
ALEXNET = {"filters": (2, 4, 4, 4, 2), "kernels": (5, 3, 3, 3, 3), "dense": (8,), "stride": 1}
FAST = [
    *map(make_contract, ["backend/tf-cpu", "backend/tf-gpu", "callback/checkpoint", "callback/system_metrics"]),
    *map(make_contract, ["dataset/line", "dataset/digits"]),
    make_contract("model/ols", data=expfw.DataSpec((2,), output_shape=(1,))),
    make_contract("model/mlp_keras", options={"dropout": 0.2}, **WITHOUT_NOISE),
    make_contract("callback/early_stopping", options={"patience": 2, "min_delta": 0.5}),
    make_contract("dataset/npz", make_options=lambda self, folder: {"path": str(write_arrays(folder))}),
    make_contract("tracker/mlflow", read_points=read_mlflow_points),
]
SLOW = [
    *map(make_contract, ["model/perceptron", "model/mlp_layers", "backend/multi-worker", "backend/parameter-server"]),
    *map(make_contract, ["callback/tensorboard", "callback/pictures", "callback/classification_report"]),
    *map(make_contract, ["callback/gradients", "callback/activation_plot", "callback/augmentation", "dataset/curve"]),
    make_contract("model/cnn", options=CNN, **WITHOUT_NOISE),
    make_contract("model/alexnet", data=expfw.DataSpec((28, 28, 1), 3), options=ALEXNET, **WITHOUT_NOISE),
    make_contract("backend/mirrored", options={"cpus": 2}),
    make_contract("callback/transfer", make_options=train_source),
    make_contract("dataset/noise", options={"shape": (4, 4, 1), "classes": 3}),
    make_contract("dataset/mnist", make_options=lambda self, folder: {"path": str(write_mnist(folder))}),
    make_contract("dataset/cifar10", make_options=lambda self, folder: {"path": str(write_cifar(folder))}),
    make_contract("tracker/csv", read_points=read_csv_points),  # the example in docs/authors/examples, a plain file
]
globals().update({cls.__name__: cls for cls in [*FAST, *map(pytest.mark.slow, SLOW)]})


def test_options_of_a_check_replace_overrides_of_the_contract(tmp_path):
    plugin = get_catalogue().get("model", "mlp_keras").import_class()
    contract = type("Mine", (ModelContract,), {"plugin": plugin, "overrides": ("model.dropout=0.5",)})
    bench = Bench(contract, tmp_path)
    assert bench.make_config().model["dropout"] == 0.5
    assert bench.make_config(options={"dropout": 0.1}).model["dropout"] == 0.1
