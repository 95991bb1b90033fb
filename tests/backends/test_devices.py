"""Options of the backends, and errors on a machine without the required devices."""

from __future__ import annotations

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.equal_metrics import assert_equal_metrics, read_metrics

import expfw
from expfw.api.option_schema import build_instance
from expfw_backends.devices.machine import read_cpu_flags, resolve_memory_limit, select_gpus
from expfw_backends.mirrored import Mirrored
from expfw_backends.tensorflow_backend import BFLOAT16_FLAGS, check_precision
from expfw_backends.tf_cpu import TfCpu
from expfw_backends.tf_gpu import TfGpu

DIGITS = ("dataset=digits", "model=mlp_keras", "train.epochs=2")
GPUS = tf.config.list_physical_devices("GPU")
no_gpu = pytest.mark.skipif(bool(GPUS), reason="this machine has a GPU")
bfloat16 = pytest.mark.skipif(
    read_cpu_flags().isdisjoint(BFLOAT16_FLAGS), reason="this CPU has no bfloat16 instructions"
)


@no_gpu
def test_a_missing_gpu_is_explained(train, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    parts = r"sees no GPU.*CUDA_VISIBLE_DEVICES is '3'.*tensorflow\[and-cuda\].*backend\.soft_placement=true"
    with pytest.raises(expfw.ConfigError, match=parts):
        train(*DIGITS, "backend=tf-gpu")
    with pytest.raises(expfw.ConfigError, match=r"sees no GPU.* split the CPU with backend\.cpus=2"):
        train(*DIGITS, "backend=mirrored")


@no_gpu
def test_soft_placement_falls_back_to_the_cpu(train, capfd):
    result = train(*DIGITS, "backend=tf-gpu", "backend.soft_placement=true")
    assert result.status == "FINISHED"
    assert "falls back to the CPU" in result.warnings[0]
    assert "falls back to the CPU" in capfd.readouterr().err
    assert_equal_metrics(result.folder, read_metrics(train(*DIGITS).folder), tolerance=0)


@no_gpu
@pytest.mark.parametrize("backend", [(), ("backend=mirrored", "backend.cpus=2")], ids=["tf-cpu", "mirrored"])
def test_each_run_sets_the_placement_of_operations(train, backend):
    for is_soft in (False, True):
        train(*DIGITS[:2], "train.steps=2", *backend, *([] if is_soft else ["backend.soft_placement=false"]))
        assert tf.config.get_soft_device_placement() is is_soft


@pytest.mark.parametrize(
    ("backend", "options", "match"),
    [
        (TfGpu, {"device": -1}, "device is -1"),
        (TfGpu, {"memory_limit": 10, "memory_fraction": 0.5}, "both set"),
        (TfGpu, {"memory_limit": 0}, "expected 1 or more"),
        (TfGpu, {"memory_fraction": 1.5}, "more than 0 and at most 1"),
        (TfCpu, {"threads": 0}, "threads is 0"),
        (TfCpu, {"resident_limit": -1.0}, "expected 0 or more"),
        (Mirrored, {"cpus": 0}, "expected 1 or more"),
        (Mirrored, {"cpus": 2, "devices": (0,)}, "both set"),
        (Mirrored, {"devices": (1, 1)}, "expected each number once"),
    ],
)
def test_invalid_options_are_rejected(backend, options, match):
    with pytest.raises(expfw.ConfigError, match=match):
        build_instance(backend.Config, options, "backend")


def test_gpus_are_selected_and_an_unknown_gpu_is_rejected(monkeypatch):
    gpus = [SimpleNamespace(name=f"/physical_device:GPU:{number}") for number in (0, 1)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert select_gpus("backend.devices", [1], "") == gpus[1:]
    assert select_gpus("backend.devices", [], "") == gpus
    with pytest.raises(expfw.ConfigError, match=r"devices: unknown GPU 2\. Available: 0: /physical_device:GPU:0, 1: /"):
        select_gpus("backend.devices", [2], "")


def test_a_memory_fraction_uses_the_size_from_nvidia_smi(tmp_path, monkeypatch):
    assert resolve_memory_limit(0, 100, None) == 100
    assert resolve_memory_limit(0, None, None) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(expfw.ConfigError, match=r"nvidia-smi does not report .* use backend\.memory_limit=MIB"):
        resolve_memory_limit(0, None, 0.5)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81920\n")
    tool.chmod(0o755)
    assert resolve_memory_limit(0, None, 0.5) == 40960


def test_options_are_rejected_after_tensorflow_has_used_its_devices(train):
    train(*DIGITS)
    for options in (["backend.threads=1"], ["backend.cpus=5", "backend=mirrored"]):
        with pytest.raises(expfw.ConfigError, match=f"cannot set {options[0]}: this process has already used Tensor"):
            train(*DIGITS, *options)


@no_gpu
def test_slow_precision_is_rejected(monkeypatch):
    with pytest.raises(expfw.ConfigError, match=r"mixed_float16 is for GPUs.* Use mixed_bfloat16, or float32"):
        check_precision("mixed_float16")
    monkeypatch.setattr("expfw_backends.tensorflow_backend.read_cpu_flags", lambda: {"fpu", "avx512f"})
    with pytest.raises(expfw.ConfigError, match=r"has no bfloat16 instructions \(avx512_bf16 or amx_bf16"):
        check_precision("mixed_bfloat16")
    monkeypatch.setattr("expfw_backends.tensorflow_backend.read_cpu_flags", lambda: {"fpu", "avx512_bf16"})
    check_precision("mixed_bfloat16")


@bfloat16
@pytest.mark.slow
def test_mixed_bfloat16_reaches_the_same_accuracy_with_weights_in_32_bits(train):
    options = (*DIGITS, "train.epochs=10", "model.optimizer.learning_rate=0.03")
    result, reference = train(*options, "backend.precision=mixed_bfloat16"), train(*options)
    assert result.metrics["test/accuracy"] == pytest.approx(reference.metrics["test/accuracy"], abs=0.03)
    assert result.metrics["train/epoch_loss"] != reference.metrics["train/epoch_loss"]
    saved = expfw.load_model(result.folder / "model")
    assert {variable.dtype for variable in saved.model.variables} == {"float32"}
    assert saved.predict(np.zeros((1, 8, 8, 1))).shape == (1, 10)
    assert keras.config.dtype_policy().name == "float32"  # the policy applies only in the context


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason="TensorFlow sees no GPU")
def test_one_gpu(train):
    result = train(*DIGITS, "backend=tf-gpu")
    assert_equal_metrics(result.folder, read_metrics(train(*DIGITS).folder), tolerance=1e-3)
    train(*DIGITS, "backend=tf-gpu", "backend.xla=true")
    train(*DIGITS, "backend=tf-gpu", "backend.precision=mixed_float16")


@pytest.mark.gpu
@pytest.mark.skipif(len(GPUS) < 2, reason="TensorFlow sees less than two GPUs")
def test_several_gpus(train):
    assert_equal_metrics(train(*DIGITS, "backend=mirrored").folder, read_metrics(train(*DIGITS).folder), tolerance=1e-3)


@pytest.mark.parametrize(
    ("overrides", "saved_backend"),
    [
        (("backend=mirrored", "backend.cpus=2"), {"plugin": "mirrored", "cpus": 77}),
        (("backend=tf-gpu", "backend.soft_placement=true"), {"plugin": "tf-gpu", "soft_placement": False}),
        ((), {"plugin": "multi-worker", "hosts": ["a:1", "b:1"], "index": 0}),
    ],
)
def test_a_saved_model_loads_without_the_devices_and_workers_of_its_training(train, overrides, saved_backend):
    result = train(*DIGITS, *overrides)
    description = result.folder / "model" / "model.json"
    content = json.loads(description.read_text())
    content["config"]["backend"] = saved_backend
    description.write_text(json.dumps(content))
    assert expfw.load_model(result.folder / "model").predict(np.zeros((1, 8, 8, 1))).shape == (1, 10)
