"""The machine's GPUs: which TensorFlow sees, what to say where it sees none, and their settings."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from expfw import ConfigError


def explain_missing_gpu(backend: str, alternative: str) -> str:
    """Why there may be no GPU, and what to do.

    Args:
        alternative: what this backend offers in that case.
    """
    driver = shutil.which("nvidia-smi")
    cuda_support = "is built with CUDA" if tf.test.is_built_with_cuda() else "is built without CUDA"
    visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    findings = [
        f"TensorFlow {tf.__version__} {cuda_support} and sees no GPU",
        "nvidia-smi is " + ("there" if driver else "not installed: there seems to be no NVIDIA driver"),
    ]
    if visible_devices is not None:
        findings.append(f"CUDA_VISIBLE_DEVICES is {visible_devices!r}")
    return (
        f"backend={backend}: {'; '.join(findings)}. Install a driver and tensorflow[and-cuda], use backend=tf-cpu, "
        f"or {alternative}"
    )


def select_gpus(gpus: Sequence[Any], indices: Sequence[int], key: str) -> list[Any]:
    """The physical GPUs with these numbers.

    Raises:
        ConfigError: there is none with one of them.
    """
    for index in indices:
        if not 0 <= index < len(gpus):
            names = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(gpus))
            raise ConfigError(f"{key} has {index}; TensorFlow sees {names}")
    return [gpus[index] for index in indices]


def resolve_memory_limit(index: int, mebibytes: int | None, fraction: float | None) -> int | None:
    """How many MiB a process may take of a GPU; None for no limit.

    Args:
        fraction: of the GPU's whole memory, which nvidia-smi is asked for.
    """
    if mebibytes is not None or fraction is None:
        return mebibytes
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", f"--id={index}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        return int(int(answer.split()[0]) * fraction)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise ConfigError(
            f"backend.memory_fraction={fraction}: nvidia-smi does not say how much memory the GPU has ({error}); "
            "use backend.memory_limit=MIB"
        ) from error


def configure_gpu(gpu: Any, allow_growth: bool, limit_mib: int | None) -> None:
    """Settings that TensorFlow takes once in a process.

    Raises:
        ConfigError: TensorFlow has used its devices already.
    """
    try:
        if limit_mib is not None:
            tf.config.set_logical_device_configuration(
                gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit_mib)]
            )
        else:
            tf.config.experimental.set_memory_growth(gpu, allow_growth)
    except RuntimeError as error:
        raise make_already_used_error("the settings of a GPU") from error


def make_already_used_error(setting: str) -> ConfigError:
    """The error of a setting that comes too late."""
    return ConfigError(f"{setting} cannot be changed: TensorFlow was used in this process already; start a new process")
