"""`expfw show`: layers, parameters, FLOPs and memory without training."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT
from support.equal_metrics import ENGINE_PLUGINS


def show_json(expfw_here, *overrides, files=()):
    done = expfw_here(*(word for file in files for word in ("-p", file)), "show", "--json", *overrides)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_alexnet_has_the_original_parameters_and_operations(expfw_here):
    summary = show_json(expfw_here, "experiment=alexnet", "dataset.samples=4")
    assert summary["parameters"] == 60_965_224
    # Multiplications and additions: 2 * (105,415,200 + 223,948,800 + ...), biases, pooling, softmax.
    assert summary["flops"] == pytest.approx(1.4506e9, rel=1e-3)
    assert summary["memory"]["weights"] == 4 * 60_965_224
    first = next(layer for layer in summary["layers"] if layer["kind"] == "Conv2D")
    assert (first["output_shape"], first["parameters"]) == ("55x55x96", 34_944)
    assert first["flops"] == 2 * 55 * 55 * 96 * 11 * 11 * 3 + 55 * 55 * 96


def test_a_dense_network_equals_a_calculation_by_hand(expfw_here):
    summary = show_json(expfw_here, "model=mlp_keras", "dataset=digits", "model.units=7", "model.layers=1")
    assert summary["parameters"] == 64 * 7 + 7 + 7 * 10 + 10
    by_kind = {layer["kind"]: layer for layer in summary["layers"]}
    assert by_kind["Dense"]["flops"] == 2 * 7 * 10 + 10
    assert summary["memory"]["optimizer"] >= 4 * summary["parameters"]  # momentum of each parameter
    assert summary["operations"]["MatMul"] == 2


def test_memory_depends_on_the_precision(expfw_here):
    single, double = (
        show_json(expfw_here, "model=mlp_keras", "dataset=digits", f"backend.precision={precision}")["memory"]
        for precision in ("float32", "float64")
    )
    assert double["weights"] == 2 * single["weights"]
    assert double["results of a batch of 64"] > 1.8 * single["results of a batch of 64"]


def test_low_level_models_show_their_variables(expfw_here):
    summary = show_json(expfw_here, "model=mlp_layers", "dataset=digits")
    assert [layer["name"] for layer in summary["layers"]] == [f"{n}_{i}" for n in ("bias", "weight") for i in range(3)]
    assert summary["flops"] == 2 * (64 * 50 + 50 * 50 + 50 * 10) + 50 + 50 + 10


def test_batch_norm_has_fixed_parameters(expfw_here):
    summary = show_json(expfw_here, "model=mlp_keras", "dataset=digits", "model.batch_norm=true", "model.units=8")
    assert summary["fixed"] == 2 * 2 * 8


@pytest.mark.parametrize(("model", "dataset"), [("two_heads", "pairs"), ("words", "odd"), ("own_step", "odd")])
def test_models_of_plugins_are_shown(expfw_here, model, dataset):
    assert show_json(expfw_here, f"model={model}", f"dataset={dataset}", files=[ENGINE_PLUGINS])["parameters"] > 0


def test_text_output(expfw_here, workdir):
    done = expfw_here("show", "model=cnn", "model.kernel=3", "dataset=digits")
    assert done.code == 0, done.err
    for text in ("model=cnn dataset=digits", "1,294 train", "Conv2D", "8x8x32", "parameters:", "FLOPs:", "MiB", "Relu"):
        assert text in done.out
    assert not (workdir / "runs").exists() or not list((workdir / "runs").glob("*-*"))


def test_unsaved_random_states_are_reported(expfw_here):
    file = str(ROOT / "tests" / "support" / "plugins" / "faulty_plugins.py")
    done = expfw_here("-p", file, "show", "model=random_fault", "dataset=digits")
    assert "random: RandomStandardNormal (state not in checkpoints;" in " ".join(done.out.split())
    assert "random:" not in expfw_here("show", "model=mlp_keras", "model.dropout=0.5", "dataset=digits").out
