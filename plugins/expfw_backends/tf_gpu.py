"""Training on one GPU."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import expfw
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class TfGpu(TensorFlowBackend):
    """TensorFlow on one GPU. Without one it says what it found, and falls back only with `soft_placement`."""

    on_gpus = True

    @dataclass
    class Config(TensorFlowOptions):
        device: int = expfw.option(0, help="number of the GPU among those TensorFlow sees (CUDA_VISIBLE_DEVICES)")
        allow_growth: bool = expfw.option(True, help="take the GPU's memory as it is needed, instead of all at once")
        memory_limit: int | None = expfw.option(None, help="MiB of the GPU's memory to take, at once")
        memory_fraction: float | None = expfw.option(None, help="the same as a share of its whole memory, 0 to 1")
        soft_placement: bool = expfw.option(
            False, help="operations without a GPU kernel, or all where there is no GPU, run on the processor"
        )
        log_device_placement: bool = expfw.option(False, help="write to the log where each operation runs")
        xla: bool = expfw.option(False, help="compile each step with XLA")

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.device < 0:
                raise ValueError(f"device is {self.device}; expected 0 or more")
            if self.memory_limit is not None and self.memory_fraction is not None:
                raise ValueError("memory_limit and memory_fraction are both given; expected one of them")
            if self.memory_limit is not None and self.memory_limit < 1:
                raise ValueError(f"memory_limit is {self.memory_limit}; expected 1 or more MiB")
            if self.memory_fraction is not None and not 0 < self.memory_fraction <= 1:
                raise ValueError(f"memory_fraction is {self.memory_fraction}; expected more than 0, 1 at most")

    def devices(self, run: expfw.Run) -> None:
        import tensorflow as tf

        from expfw_backends.devices import gpus

        options = self.config
        tf.config.set_soft_device_placement(options.soft_placement)
        tf.debugging.set_log_device_placement(options.log_device_placement)
        physical_gpus = tf.config.list_physical_devices("GPU")
        if not physical_gpus:
            message = gpus.explain_missing_gpu(
                self.name, "let it fall back to the processor with backend.soft_placement=true"
            )
            if not options.soft_placement:
                raise expfw.ConfigError(message)
            run.warn(f"{message}. It falls back to the processor, as backend.soft_placement says")
            return
        (gpu,) = gpus.select_gpus(physical_gpus, [options.device], "backend.device")
        try:
            tf.config.set_visible_devices([gpu], "GPU")
        except RuntimeError as error:
            raise gpus.make_already_used_error("backend.device") from error
        limit_mib = gpus.resolve_memory_limit(options.device, options.memory_limit, options.memory_fraction)
        gpus.configure_gpu(gpu, options.allow_growth, limit_mib)

    def loop(self) -> Any:
        return functools.partial(super().loop(), xla=self.config.xla)
