"""Number precision of Keras layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from expfw import ConfigError

_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # Intel and AMD, Intel's matrix units, Arm


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Within the context, new Keras layers use this precision; with float64 also losses and metrics."""
    previous_policy, previous_floatx = keras.config.dtype_policy(), keras.config.floatx()
    if name == "float64":
        keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(previous_floatx)
        keras.config.set_dtype_policy(previous_policy)


def check_precision(precision: str) -> None:
    """Rejects a precision that is slow on this machine.

    Raises:
        ConfigError: if there is no GPU and the CPU has no instructions for this precision.
    """
    if precision == "mixed_bfloat16" and not tf.config.get_visible_devices("GPU") and not processor_has_bfloat16():
        raise ConfigError(
            "backend.precision=mixed_bfloat16: this CPU has no bfloat16 instructions "
            f"({' or '.join(_BFLOAT16[:2])}), so training would be many times slower than with float32; use float32"
        )
    if precision == "mixed_float16" and not tf.config.get_visible_devices("GPU"):
        raise ConfigError(
            "backend.precision=mixed_float16 is for GPUs; on a CPU it is many times slower than float32. "
            "Use mixed_bfloat16, or float32"
        )


def processor_has_bfloat16(cpuinfo_path: Path = Path("/proc/cpuinfo")) -> bool:
    """Returns whether the flags of the CPU include bfloat16; False if the file does not exist."""
    try:
        text = cpuinfo_path.read_text()
    except OSError:
        return False
    flags = {flag for line in text.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return not flags.isdisjoint(_BFLOAT16)
