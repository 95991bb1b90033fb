"""Training on one GPU."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import expfw
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions, disable_meta_optimizer


class TfGpu(TensorFlowBackend):
    """TensorFlow on one GPU. Without a GPU the run fails, or uses the CPU if `soft_placement` is set."""

    on_gpus = True

    @dataclass
    class Config(TensorFlowOptions):
        device: int = expfw.option(
            0, help="index of the GPU among those that TensorFlow sees (CUDA_VISIBLE_DEVICES)", at_least=0
        )
        allow_growth: bool = expfw.option(True, help="allocate GPU memory when needed, instead of all at the start")
        memory_limit: int | None = expfw.option(None, help="MiB of GPU memory to allocate at the start", at_least=1)
        memory_fraction: float | None = expfw.option(
            None, help="fraction of the GPU memory to allocate at the start, 0 to 1", more_than=0, at_most=1
        )
        soft_placement: bool = expfw.option(
            False, help="use the CPU for operations without a GPU kernel; if there is no GPU, for all operations"
        )
        log_device_placement: bool = expfw.option(False, help="log the device of each operation")
        xla: bool = expfw.option(False, help="compile each step with XLA")

        def __post_init__(self) -> None:
            if self.memory_limit is not None and self.memory_fraction is not None:
                raise ValueError("memory_limit and memory_fraction are both set; expected one of them")

    def devices(self, run: expfw.Run) -> None:
        import tensorflow as tf

        from expfw_backends.devices import gpus

        options = self.config
        tf.config.set_soft_device_placement(options.soft_placement)
        tf.debugging.set_log_device_placement(options.log_device_placement)
        try:
            physical_gpus = gpus.list_gpus(self.name, "fall back to the CPU with backend.soft_placement=true")
        except expfw.ConfigError as error:
            if not options.soft_placement:
                raise
            run.warn(f"{error}. The run falls back to the CPU, because backend.soft_placement=true")
            disable_meta_optimizer()  # the same numbers as tf-cpu
            return
        (gpu,) = gpus.select_gpus(physical_gpus, [options.device], "backend.device")
        with gpus.before_first_use(f"backend.device={options.device}"):
            tf.config.set_visible_devices([gpu], "GPU")
        limit_mib = gpus.resolve_memory_limit(options.device, options.memory_limit, options.memory_fraction)
        with gpus.before_first_use("the GPU memory options"):
            if limit_mib is not None:
                limits = [tf.config.LogicalDeviceConfiguration(memory_limit=limit_mib)]
                tf.config.set_logical_device_configuration(gpu, limits)
            else:
                tf.config.experimental.set_memory_growth(gpu, options.allow_growth)

    def loop(self) -> Any:
        return functools.partial(super().loop(), xla=self.config.xla)
