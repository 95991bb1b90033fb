"""Use of CPU, memory and GPUs during a run."""

from __future__ import annotations

import importlib
import logging
import os
import time
from dataclasses import dataclass
from typing import Any

import expfw

log = logging.getLogger("expfw")
_MIB = 2**20


class SystemMetrics(expfw.Callback):
    """Records the use of CPU, memory and NVIDIA GPUs at regular intervals.

    It takes a sample at the end of an engine call, without an extra thread, and one at the end of the run. Samples are
    not metrics: they are not compared when a run is resumed or reproduced. Trackers show them as `system/...`.
    """

    preload = ("psutil",)

    @dataclass
    class Config:
        seconds: float = expfw.option(10.0, help="seconds between two samples", more_than=0)

    process: Any = None

    @expfw.hookimpl
    def expfw_run_started(self) -> None:
        import psutil

        self.gpu_usage = GpuUsage()
        self.process = psutil.Process()
        self.process.cpu_percent()  # psutil measures since the previous call
        psutil.cpu_percent()
        self.next_sample_at = time.monotonic() + self.config.seconds

    @expfw.hookimpl
    def expfw_steps_ended(self, run: expfw.Run) -> None:
        if time.monotonic() >= self.next_sample_at:
            self._record_sample(run)

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run) -> None:
        if self.process is not None:
            self._record_sample(run)
            self.gpu_usage.close()

    def _record_sample(self, run: expfw.Run) -> None:
        import psutil

        memory = psutil.virtual_memory()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MIB,
            "system_memory_usage_percentage": memory.percent,
            "process_cpu_utilization_percentage": self.process.cpu_percent(),
            "process_memory_usage_megabytes": self.process.memory_info().rss / _MIB,
        }
        run.record("system", step=run.step, values=values | self.gpu_usage.sample())
        self.next_sample_at = time.monotonic() + self.config.seconds


class GpuUsage:
    """Reads GPU utilization from the NVIDIA driver, with the package `nvidia-ml-py` (`expfw[gpu]`).

    Measures the GPUs that this process may use. Returns no values without a driver; without the package, it also logs
    a warning.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        if not os.path.exists("/proc/driver/nvidia"):
            return
        try:
            pynvml = importlib.import_module("pynvml")
        except ImportError:
            log.warning("GPUs are not measured: nvidia-ml-py is missing; install it with: pip install 'expfw[gpu]'")
            return
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in list_visible_gpus(count)]
            self._nvml = pynvml
        except pynvml.NVMLError as error:
            log.warning("GPUs are not measured: %s", error)

    def sample(self) -> dict[str, float]:
        """Returns values by name, such as `gpu_0_utilization_percentage`; empty without GPUs to measure."""
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
        """Closes the connection to the driver."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()


def list_visible_gpus(count: int) -> list[int]:
    """Returns the numbers of the GPUs in `CUDA_VISIBLE_DEVICES`; all `count` GPUs if it does not contain numbers."""
    visible_devices = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    try:
        numbers = [int(number) for number in visible_devices.split(",") if number.strip()]
    except ValueError:
        return list(range(count))
    return [number for number in numbers if 0 <= number < count]
