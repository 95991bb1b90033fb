"""Training on one GPU."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import expfw
from expfw_backends.devices import machine
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


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
        xla: bool = expfw.option(False, help="compile each step with XLA")

        def __post_init__(self) -> None:
            if self.memory_limit is not None and self.memory_fraction is not None:
                raise ValueError("memory_limit and memory_fraction are both set; expected one of them")

    def devices(self, run: expfw.Run) -> None:
        import tensorflow as tf

        options = self.config
        if options.soft_placement and not tf.config.list_physical_devices("GPU"):
            reason, remedy = machine.explain_missing_gpu(tf)
            run.warn(f"no GPU: {reason}; {remedy}. The run falls back to the CPU, because backend.soft_placement=true")
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # the same numbers as tf-cpu
            return
        alternative = "fall back to the CPU with backend.soft_placement=true"
        (gpu,) = machine.select_gpus("backend.device", [options.device], alternative)
        limit_mib = machine.resolve_memory_limit(options.device, options.memory_limit, options.memory_fraction)
        with machine.before_first_use(f"backend.device={options.device} and its memory options"):
            tf.config.set_visible_devices([gpu], "GPU")
            if limit_mib is not None:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=limit_mib)
                tf.config.set_logical_device_configuration(gpu, [limit])
            else:
                tf.config.experimental.set_memory_growth(gpu, options.allow_growth)

    def loop(self) -> Any:
        return functools.partial(super().loop(), xla=self.config.xla)
