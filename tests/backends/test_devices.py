"""Options of the backends, and what they say on a machine without what they need."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.equal_metrics import assert_equal_metrics, read_metrics

import expfw
from expfw_backends.devices import gpus
from expfw_backends.devices.precision import check_precision, processor_has_bfloat16
from expfw_backends.mirrored import Mirrored
from expfw_backends.tf_cpu import TfCpu
from expfw_backends.tf_gpu import TfGpu

DIGITS = ("dataset=digits", "model=mlp_keras", "train.epochs=2")
no_gpu = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
bfloat16 = pytest.mark.skipif(not processor_has_bfloat16(), reason="this processor has no bfloat16 instructions")


@pytest.fixture
def gpu(processors):
    """Skips where there is none."""
    if not (found := tf.config.list_physical_devices("GPU")):
        pytest.skip("TensorFlow sees no GPU")
    return found


@no_gpu
def test_without_a_gpu_it_says_what_it_found_and_what_to_do(train, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(expfw.ConfigError) as error:
        train(*DIGITS, "backend=tf-gpu")
    for part in ("sees no GPU", "CUDA_VISIBLE_DEVICES is '3'", "tensorflow[and-cuda]", "backend.soft_placement=true"):
        assert part in str(error.value)
    with pytest.raises(expfw.ConfigError, match=r"sees no GPU.* divide the processor with backend\.cpus=2"):
        train(*DIGITS, "backend=mirrored")


@no_gpu
def test_it_falls_back_only_where_soft_placement_says_so(train, capfd):
    result = train(*DIGITS, "backend=tf-gpu", "backend.soft_placement=true")
    assert result.status == "FINISHED"
    assert "falls back to the processor" in result.warnings[0]
    assert "falls back to the processor" in capfd.readouterr().err
    assert_equal_metrics(result.folder, read_metrics(train(*DIGITS).folder), tolerance=0)


@pytest.mark.parametrize(
    ("backend", "options", "match"),
    [
        (TfGpu, {"device": -1}, "device is -1"),
        (TfGpu, {"memory_limit": 10, "memory_fraction": 0.5}, "both given"),
        (TfGpu, {"memory_limit": 0}, "expected 1 or more MiB"),
        (TfGpu, {"memory_fraction": 1.5}, "more than 0, 1 at most"),
        (TfCpu, {"threads": 0}, "threads is 0"),
        (TfCpu, {"resident_limit": -1.0}, "expected 0 or more GiB"),
        (Mirrored, {"cpus": 0}, "cpus of 1 or more"),
        (Mirrored, {"cpus": 2, "devices": (0,)}, "or devices"),
        (Mirrored, {"devices": (1, 1)}, "expected each once"),
    ],
)
def test_options_that_cannot_be(backend, options, match):
    with pytest.raises(ValueError, match=match):
        backend.Config(**options)


def test_a_gpu_that_is_not_there():
    class Gpu:
        name = "/physical_device:GPU:0"

    assert gpus.select_gpus([Gpu, Gpu], [1], "backend.device") == [Gpu]
    with pytest.raises(expfw.ConfigError, match=r"backend\.device has 2; TensorFlow sees 0: /physical_device:GPU:0"):
        gpus.select_gpus([Gpu], [2], "backend.device")


def test_a_share_of_a_gpus_memory_is_asked_of_nvidia_smi(tmp_path, monkeypatch):
    assert gpus.resolve_memory_limit(0, 100, None) == 100
    assert gpus.resolve_memory_limit(0, None, None) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(expfw.ConfigError, match=r"nvidia-smi does not say .* use backend\.memory_limit=MIB"):
        gpus.resolve_memory_limit(0, None, 0.5)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81920\n")
    tool.chmod(0o755)
    assert gpus.resolve_memory_limit(0, None, 0.5) == 40960


def test_settings_that_come_too_late(train):
    train(*DIGITS)
    with pytest.raises(expfw.ConfigError, match=r"backend\.threads=1 cannot be set: TensorFlow was used"):
        train(*DIGITS, "backend.threads=1")
    with pytest.raises(expfw.ConfigError, match=r"backend\.cpus cannot be changed: TensorFlow was used"):
        train(*DIGITS, "backend=mirrored", "backend.cpus=5")


def test_whether_a_processor_has_bfloat16(tmp_path):
    description = tmp_path / "cpuinfo"
    assert not processor_has_bfloat16(description)
    description.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f\n")
    assert not processor_has_bfloat16(description)
    description.write_text("processor : 0\nflags\t\t: fpu avx2 avx512_bf16\n")
    assert processor_has_bfloat16(description)


@no_gpu
def test_precision_that_would_only_be_slow_is_refused(monkeypatch):
    with pytest.raises(expfw.ConfigError, match=r"mixed_float16 is for GPUs.* Use mixed_bfloat16, or float32"):
        check_precision("mixed_float16")
    monkeypatch.setattr("expfw_backends.devices.precision.processor_has_bfloat16", lambda: False)
    with pytest.raises(expfw.ConfigError, match=r"has no bfloat16 instructions \(avx512_bf16 or amx_bf16"):
        check_precision("mixed_bfloat16")


@bfloat16
def test_mixed_bfloat16_trains_as_well_with_weights_in_32_bits(train):
    options = (*DIGITS, "train.epochs=10", "model.optimizer.learning_rate=0.03")
    result, reference = train(*options, "backend.precision=mixed_bfloat16"), train(*options)
    assert result.metrics["test/accuracy"] == pytest.approx(reference.metrics["test/accuracy"], abs=0.03)
    assert result.metrics["train/epoch_loss"] != reference.metrics["train/epoch_loss"]
    saved = expfw.load_model(result.folder / "model")
    assert {variable.dtype for variable in saved.model.variables} == {"float32"}
    assert saved.predict(np.zeros((1, 8, 8, 1))).shape == (1, 10)
    assert keras.config.dtype_policy().name == "float32"  # ours was for building that model alone


@pytest.mark.gpu
def test_one_gpu(train, gpu):
    result = train(*DIGITS, "backend=tf-gpu")
    assert_equal_metrics(result.folder, read_metrics(train(*DIGITS).folder), tolerance=1e-3)
    train(*DIGITS, "backend=tf-gpu", "backend.xla=true")
    train(*DIGITS, "backend=tf-gpu", "backend.precision=mixed_float16")


@pytest.mark.gpu
def test_several_gpus(train, gpu):
    if len(gpu) < 2:
        pytest.skip("TensorFlow sees one GPU")
    assert_equal_metrics(train(*DIGITS, "backend=mirrored").folder, read_metrics(train(*DIGITS).folder), tolerance=1e-3)


@pytest.mark.parametrize(
    "backend",
    [
        ("backend=mirrored", "backend.cpus=2"),
        ("backend=tf-gpu", "backend.soft_placement=true"),
    ],
)
def test_a_saved_model_needs_none_of_what_it_was_trained_on(train, backend):
    import json

    result = train(*DIGITS, *backend)
    description = result.folder / "model" / "model.json"
    content = json.loads(description.read_text())
    options = content["config"]["backend"]
    options.update({"cpus": 77} if "cpus" in options else {"soft_placement": False})
    description.write_text(json.dumps(content))
    assert expfw.load_model(result.folder / "model").predict(np.zeros((1, 8, 8, 1))).shape == (1, 10)


def test_a_model_of_several_workers_is_loaded_alone(train):
    import json

    result = train(*DIGITS)
    description = result.folder / "model" / "model.json"
    content = json.loads(description.read_text())
    content["config"]["backend"] = {"plugin": "multi-worker", "hosts": ["a:1", "b:1"], "index": 0}
    description.write_text(json.dumps(content))
    assert expfw.load_model(result.folder / "model").predict(np.zeros((1, 8, 8, 1))).shape == (1, 10)
