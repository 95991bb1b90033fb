"""How busy the NVIDIA GPUs of this machine are."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

log = logging.getLogger("expfw")
_MIB = 2**20


class GpuUsage:
    """Asks the NVIDIA driver, by the package `nvidia-ml-py` (`expfw[gpu]`).

    Without a driver there is nothing to ask; without the package the log says so.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []

    def open(self) -> None:
        """Finds those GPUs that this process may use."""
        if not os.path.exists("/proc/driver/nvidia"):
            return
        try:
            pynvml = importlib.import_module("pynvml")
        except ImportError:
            log.warning("GPUs are not measured: the package nvidia-ml-py is not installed (pip install 'expfw[gpu]')")
            return
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in list_visible_gpus(count)]
        except pynvml.NVMLError as error:
            log.warning("GPUs are not measured: %s", error)
            return
        self._nvml = pynvml

    def sample(self) -> dict[str, float]:
        """Values by name, such as `gpu_0_utilization_percentage`; empty where nothing can be asked."""
        values: dict[str, float] = {}
        for number, handle in enumerate(self._handles):
            try:
                rates = self._nvml.nvmlDeviceGetUtilizationRates(handle)
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                milliwatts = self._nvml.nvmlDeviceGetPowerUsage(handle)
            except self._nvml.NVMLError as error:
                log.warning("GPU %d is no longer measured: %s", number, error)
                self._handles = []
                return values
            values |= {
                f"gpu_{number}_utilization_percentage": float(rates.gpu),
                f"gpu_{number}_memory_usage_megabytes": memory.used / _MIB,
                f"gpu_{number}_memory_usage_percentage": 100 * memory.used / memory.total,
                f"gpu_{number}_power_usage_watts": milliwatts / 1000,
            }
        return values

    def close(self) -> None:
        """Gives the driver back."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml, self._handles = None, []


def list_visible_gpus(count: int) -> list[int]:
    """The numbers, of `count` GPUs, that `CUDA_VISIBLE_DEVICES` leaves; all where it names them otherwise."""
    visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible_devices is None:
        return list(range(count))
    numbers = [part.strip() for part in visible_devices.split(",") if part.strip()]
    if not all(number.lstrip("-").isdigit() for number in numbers):
        return list(range(count))
    return [int(number) for number in numbers if 0 <= int(number) < count]
