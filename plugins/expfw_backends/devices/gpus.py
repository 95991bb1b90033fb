"""GPUs: selection, memory options and error messages."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from expfw import ConfigError
from expfw_backends.devices.health_check import explain_missing_gpu


def list_gpus(backend: str, alternative: str) -> list[Any]:
    """Returns the GPUs of this machine; the error for a missing GPU has its likely cause, and ways to fix it."""
    physical_gpus = tf.config.list_physical_devices("GPU")
    if not physical_gpus:
        reason, remedy = explain_missing_gpu(tf)
        raise ConfigError(
            f"backend={backend}: TensorFlow {tf.__version__} sees no GPU: {reason}; {remedy}. Or use backend=tf-cpu, "
            f"or {alternative}"
        )
    return list(physical_gpus)


def select_gpus(gpus: Sequence[Any], indices: Sequence[int], key: str) -> list[Any]:
    """Returns the GPUs with these indices."""
    for index in indices:
        if not 0 <= index < len(gpus):
            names = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(gpus))
            raise ConfigError(f"{key}: unknown GPU {index}. Available: {names}")
    return [gpus[index] for index in indices]


def resolve_memory_limit(index: int, mebibytes: int | None, fraction: float | None) -> int | None:
    """Returns the memory limit of a GPU in MiB, also if it is a fraction of the memory; None for no limit."""
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


@contextmanager
def before_first_use(setting: str) -> Iterator[None]:
    """Within the context, TensorFlow's error about a setting that is set too late is raised as `ConfigError`."""
    try:
        yield
    except RuntimeError as error:
        raise ConfigError(f"cannot set {setting}: this process has already used TensorFlow; start a new one") from error
