"""What TensorFlow finds on this machine, for `expfw doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import time
from pathlib import Path
from typing import Any

Findings = list[tuple[str, bool, str]]
_VECTOR_INSTRUCTIONS = {
    "avx": "AVX",
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "bfloat16",
    "amx_bf16": "AMX",
}
_INSTALL_COMMAND = "pip install 'tensorflow[and-cuda]'"


def check_tensorflow(wants_gpu: bool) -> Findings:
    """All of it; the import of TensorFlow first, since nothing else can be told without it.

    Args:
        wants_gpu: whether there must be a GPU.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    started_at = time.monotonic()
    try:
        import keras
        import tensorflow as tf

        total = float(tf.reduce_sum(tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64)))))
    except Exception as error:  # whatever an import, or the first operation, raises
        problem = f"TensorFlow cannot be used ({type(error).__name__}: {error})"
        return [(problem, False, "pip install --force-reinstall tensorflow, in this environment"), check_cpu()]
    import_seconds = time.monotonic() - started_at
    is_correct = total == 64.0**3
    remedy = "" if is_correct else "it computes wrong sums: reinstall it, or look at the machine's memory"
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, imported in {import_seconds:.1f} s"
    return [(versions, is_correct, remedy), check_cpu(), check_gpus(tf, wants_gpu), check_tensorboard()]


def check_cpu(cpuinfo_path: Path = Path("/proc/cpuinfo")) -> tuple[str, bool, str]:
    """Which vector instructions there are."""
    try:
        lines = cpuinfo_path.read_text().splitlines()
    except OSError:
        return "processor: the system does not tell its instructions", True, ""
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), None)
    if flags is None:  # another architecture has other words
        return "processor: without the instructions of Intel's and AMD's", True, ""
    instructions = ", ".join(text for flag, text in _VECTOR_INSTRUCTIONS.items() if flag in flags)
    if "avx2" in flags:
        return f"processor: {instructions}", True, ""
    if "avx" in flags:
        return f"processor: {instructions}, no AVX2", True, "trainings are slow on it"
    return "processor: no AVX", False, "TensorFlow's packages need it: use another machine, or build TensorFlow"


def check_gpus(tf: Any, is_required: bool) -> tuple[str, bool, str]:
    """Which GPUs TensorFlow sees; where it sees none, what seems to be missing."""
    physical_gpus = tf.config.list_physical_devices("GPU")
    if physical_gpus:
        gpu_names = [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in physical_gpus
        ]
        remedy = "" if is_required else "train on it with backend=tf-gpu"
        return f"GPUs: {', '.join(gpu_names)}", True, remedy
    reason, remedy = _explain_missing_gpu(tf)
    return f"no GPU: {reason}", not is_required, remedy


def _explain_missing_gpu(tf: Any) -> tuple[str, str]:
    visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible_devices is not None and visible_devices.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible_devices!r} hides them", "unset CUDA_VISIBLE_DEVICES to train on one"
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return (
            "there is no NVIDIA driver",
            f"where there is one in the machine: install the driver, then {_INSTALL_COMMAND}",
        )
    if not tf.test.is_built_with_cuda():
        return "this TensorFlow is built without CUDA", _INSTALL_COMMAND
    try:
        cuda = f"cuDNN {importlib.metadata.version('nvidia-cudnn-cu12')} is installed"
    except importlib.metadata.PackageNotFoundError:
        return "there is a driver, but the CUDA libraries are not installed", _INSTALL_COMMAND
    return f"there is a driver, and {cuda}, but they do not fit together", f"update the driver; {_INSTALL_COMMAND}"


def check_tensorboard() -> tuple[str, bool, str]:
    """TensorBoard, which one callback needs."""
    try:
        return f"TensorBoard {importlib.metadata.version('tensorboard')}", True, ""
    except importlib.metadata.PackageNotFoundError:
        return "no TensorBoard", True, "callback=tensorboard needs it: pip install tensorboard"
