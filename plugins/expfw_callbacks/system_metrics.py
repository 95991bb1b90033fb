"""Use of CPU, memory and GPUs during a run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import expfw
from expfw_callbacks.system.gpu_usage import GpuUsage

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

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.process: Any = None
        self.gpu_usage = GpuUsage()
        self.next_sample_at = 0.0

    @expfw.hookimpl
    def expfw_run_started(self) -> None:
        import psutil

        self.process = psutil.Process()
        self.process.cpu_percent()  # psutil measures since the previous call
        psutil.cpu_percent()
        self.gpu_usage.open()
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
