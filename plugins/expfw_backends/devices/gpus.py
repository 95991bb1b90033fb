"""GPUs: selection, memory options and error messages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from expfw import ConfigError


def explain_missing_gpu(backend: str, alternative: str) -> str:
    """Returns an error message with the likely cause of a missing GPU and the ways to fix it.

    Args:
        backend: name of the backend.
        alternative: how to train without a GPU with this backend.
    """
    driver = shutil.which("nvidia-smi")
    cuda_support = "is built with CUDA" if tf.test.is_built_with_cuda() else "is built without CUDA"
    visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    findings = [
        f"TensorFlow {tf.__version__} {cuda_support} and sees no GPU",
        "nvidia-smi is " + ("installed" if driver else "not installed, so the NVIDIA driver is probably missing"),
    ]
    if visible_devices is not None:
        findings.append(f"CUDA_VISIBLE_DEVICES is {visible_devices!r}")
    return (
        f"backend={backend}: {'; '.join(findings)}. Install a driver and tensorflow[and-cuda], use backend=tf-cpu, "
        f"or {alternative}"
    )


def select_gpus(gpus: Sequence[Any], indices: Sequence[int], key: str) -> list[Any]:
    """Returns the physical GPUs with these indices.

    Raises:
        ConfigError: if an index is unknown.
    """
    for index in indices:
        if not 0 <= index < len(gpus):
            names = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(gpus))
            raise ConfigError(f"{key}: unknown GPU {index}. Available: {names}")
    return [gpus[index] for index in indices]


def resolve_memory_limit(index: int, mebibytes: int | None, fraction: float | None) -> int | None:
    """Returns the memory limit of a GPU in MiB; None for no limit.

    Args:
        index: index of the GPU.
        mebibytes: the limit in MiB, if set.
        fraction: the limit as a fraction of the GPU memory, if set; nvidia-smi reports the memory size.

    Raises:
        ConfigError: if nvidia-smi does not report the memory size.
    """
    if mebibytes is not None or fraction is None:
        return mebibytes
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", f"--id={index}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        return int(int(answer.split()[0]) * fraction)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise ConfigError(
            f"backend.memory_fraction={fraction}: nvidia-smi does not report the GPU memory size ({error}); "
            "use backend.memory_limit=MIB"
        ) from error


def configure_gpu(gpu: Any, allow_growth: bool, limit_mib: int | None) -> None:
    """Sets the memory options of a GPU; TensorFlow accepts them once in a process.

    Raises:
        ConfigError: if TensorFlow has already used its devices.
    """
    try:
        if limit_mib is not None:
            tf.config.set_logical_device_configuration(
                gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit_mib)]
            )
        else:
            tf.config.experimental.set_memory_growth(gpu, allow_growth)
    except RuntimeError as error:
        raise make_already_used_error("the GPU memory options") from error


def make_already_used_error(setting: str) -> ConfigError:
    """Returns the error of an option that is set too late."""
    return ConfigError(f"cannot set {setting}: this process has already used TensorFlow; start a new process")
