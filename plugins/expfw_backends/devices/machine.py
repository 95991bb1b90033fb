"""The CPU and the GPUs of this machine: selection, memory, errors, and checks for `expfw doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expfw import ConfigError

Finding = tuple[str, bool, str]
CPU_INFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = {"avx": "AVX", "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}


def select_gpus(key: str, indices: Sequence[int], alternative: str) -> list[Any]:
    """Returns the GPUs with these indices, by default all; the error has the likely cause, and ways to fix it."""
    import tensorflow as tf

    gpus = list(tf.config.list_physical_devices("GPU"))
    if not gpus:
        reason, remedy = explain_missing_gpu(tf)
        raise ConfigError(
            f"{key}: TensorFlow {tf.__version__} sees no GPU: {reason}; {remedy}. Or use backend=tf-cpu, or "
            f"{alternative}"
        )
    for index in indices:
        if not 0 <= index < len(gpus):
            names = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(gpus))
            raise ConfigError(f"{key}: unknown GPU {index}. Available: {names}")
    return [gpus[index] for index in indices] or gpus


def resolve_memory_limit(index: int, mebibytes: int | None, fraction: float | None) -> int | None:
    """Returns the memory limit of a GPU in MiB, also if it is a fraction of the memory; None for no limit."""
    if fraction is None:
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


def check_tensorflow(wants_gpu: bool) -> list[Finding]:
    """Runs all checks. If TensorFlow cannot be imported, only this problem and the CPU are reported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    started_at = time.monotonic()
    try:
        import keras
        import tensorflow as tf

        total = float(tf.reduce_sum(tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64)))))
    except Exception as error:  # an import or a first operation can raise any exception
        problem = f"TensorFlow cannot be used ({type(error).__name__}: {error})"
        return [(problem, False, "pip install --force-reinstall tensorflow, in this environment"), check_cpu()]
    import_seconds, is_correct = time.monotonic() - started_at, total == 64.0**3
    remedy = "" if is_correct else "it computes wrong results: reinstall TensorFlow, or test the memory of the machine"
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, imported in {import_seconds:.1f} s"
    try:
        tensorboard = f"TensorBoard {importlib.metadata.version('tensorboard')}", True, ""
    except importlib.metadata.PackageNotFoundError:
        tensorboard = "TensorBoard is not installed", True, "callback=tensorboard needs it: pip install tensorboard"
    return [(versions, is_correct, remedy), check_cpu(), check_gpus(tf, wants_gpu), tensorboard]


def read_cpu_flags(cpuinfo_path: Path = CPU_INFO) -> set[str]:
    """Returns the instruction sets of the CPU; empty on a system without this file."""
    try:
        lines = cpuinfo_path.read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}


def check_cpu(cpuinfo_path: Path = CPU_INFO) -> Finding:
    """Reports the vector instructions of the CPU."""
    flags = read_cpu_flags(cpuinfo_path)
    if "sse" not in flags:
        return "CPU: not x86, or instruction set unknown", True, ""
    instructions = ", ".join(text for flag, text in _INSTRUCTIONS.items() if flag in flags)
    if "avx2" in flags:
        return f"CPU: {instructions}", True, ""
    if "avx" in flags:
        return f"CPU: {instructions}, no AVX2", True, "training is slow on this CPU"
    return "CPU: no AVX", False, "TensorFlow's packages need AVX: use another machine, or build TensorFlow from source"


def check_gpus(tf: Any, is_required: bool) -> Finding:
    """Reports the GPUs that TensorFlow sees, or the likely cause if it sees none."""
    physical_gpus = tf.config.list_physical_devices("GPU")
    if physical_gpus:
        get_details = tf.config.experimental.get_device_details
        gpu_names = [get_details(gpu).get("device_name", gpu.name) for gpu in physical_gpus]
        return f"GPUs: {', '.join(gpu_names)}", True, "" if is_required else "to train on a GPU: backend=tf-gpu"
    reason, remedy = explain_missing_gpu(tf)
    return f"no GPU: {reason}", not is_required, remedy


def explain_missing_gpu(tf: Any) -> tuple[str, str]:
    """Returns the likely cause if TensorFlow sees no GPU, and its remedy."""
    visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible_devices is not None and visible_devices.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible_devices!r} hides them", "unset CUDA_VISIBLE_DEVICES to train on a GPU"
    restriction = "" if visible_devices is None else f" (CUDA_VISIBLE_DEVICES is {visible_devices!r})"
    reason, remedy = "there is a driver, but the CUDA libraries are missing or do not match it", "update the driver; "
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        reason, remedy = "there is no NVIDIA driver", "if the machine has a GPU: install the driver, then "
    elif not tf.test.is_built_with_cuda():
        reason, remedy = "this TensorFlow is built without CUDA", ""
    return reason + restriction, remedy + "pip install 'tensorflow[and-cuda]'"
