"""The machine's GPUs: which TensorFlow sees, what to say where it sees none, and their settings."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from expfw import ConfigError


def none_found(backend: str, otherwise: str) -> str:
    """Why there may be no GPU, and what to do.

    Args:
        otherwise: what this backend offers in that case.
    """
    driver = shutil.which("nvidia-smi")
    built = "is built with CUDA" if tf.test.is_built_with_cuda() else "is built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [
        f"TensorFlow {tf.__version__} {built} and sees no GPU",
        "nvidia-smi is " + ("there" if driver else "not installed: there seems to be no NVIDIA driver"),
    ]
    if hidden is not None:
        found.append(f"CUDA_VISIBLE_DEVICES is {hidden!r}")
    return (
        f"backend={backend}: {'; '.join(found)}. Install a driver and tensorflow[and-cuda], use backend=tf-cpu, "
        f"or {otherwise}"
    )


def pick(gpus: Sequence[Any], indices: Sequence[int], key: str) -> list[Any]:
    """The physical GPUs with these numbers.

    Raises:
        ConfigError: there is none with one of them.
    """
    for index in indices:
        if not 0 <= index < len(gpus):
            names = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(gpus))
            raise ConfigError(f"{key} has {index}; TensorFlow sees {names}")
    return [gpus[index] for index in indices]


def memory_limit(index: int, mebibytes: int | None, fraction: float | None) -> int | None:
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


def configure(gpu: Any, allow_growth: bool, limit: int | None) -> None:
    """Settings that TensorFlow takes once in a process.

    Raises:
        ConfigError: TensorFlow has used its devices already.
    """
    try:
        if limit is not None:
            tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=limit)])
        else:
            tf.config.experimental.set_memory_growth(gpu, allow_growth)
    except RuntimeError as error:
        raise used_already("the settings of a GPU") from error


def used_already(what: str) -> ConfigError:
    """The error of a setting that comes too late."""
    return ConfigError(f"{what} cannot be changed: TensorFlow was used in this process already; start a new process")
