"""Synchronous training on several devices of one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import expfw
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class Mirrored(TensorFlowBackend):
    """Synchronous training on several GPUs, or on parts of the CPU, each with a copy of the weights.

    Each step adds up the gradients of all devices. `train.batch_size` is the batch size of all devices together.
    """

    @dataclass
    class Config(TensorFlowOptions):
        devices: tuple[int, ...] = expfw.option((), help="indices of the GPUs; by default all that TensorFlow sees")
        cpus: int | None = expfw.option(
            None, help="number of logical devices to split the CPU into, instead of GPUs", at_least=1
        )
        reduction: Literal["auto", "nccl", "hierarchical", "one_device"] = expfw.option(
            "auto", help="method that exchanges the gradients"
        )

        def __post_init__(self) -> None:
            if self.cpus is not None and self.devices:
                raise ValueError("cpus and devices are both set; expected one of them")
            if len(set(self.devices)) < len(self.devices):
                raise ValueError(f"devices is {list(self.devices)}; expected each number once")

    def devices(self, run: expfw.Run) -> None:
        import tensorflow as tf

        from expfw_backends.devices import gpus

        if self.config.cpus is not None:
            self._create_logical_cpus(self.config.cpus)
            return
        physical_gpus = tf.config.list_physical_devices("GPU")
        if not physical_gpus:
            raise expfw.ConfigError(gpus.explain_missing_gpu(self.name, "split the CPU with backend.cpus=2"))
        selected_gpus = gpus.select_gpus(
            physical_gpus, self.config.devices or range(len(physical_gpus)), "backend.devices"
        )
        try:
            tf.config.set_visible_devices(selected_gpus, "GPU")
        except RuntimeError as error:
            raise gpus.make_already_used_error("backend.devices") from error
        for gpu in selected_gpus:
            gpus.configure_gpu(gpu, allow_growth=True, limit_mib=None)

    def strategy(self) -> Any:
        import tensorflow as tf

        on_cpu = self.config.cpus is not None
        logical_devices = tf.config.list_logical_devices("CPU" if on_cpu else "GPU")
        devices = [device.name for device in logical_devices[: self.config.cpus]]
        reduction_factories = {
            # The default on CPUs, collectives within one process, cannot change the number of devices.
            "auto": tf.distribute.ReductionToOneDevice if on_cpu else lambda: None,
            "nccl": tf.distribute.NcclAllReduce,
            "hierarchical": tf.distribute.HierarchicalCopyAllReduce,
            "one_device": tf.distribute.ReductionToOneDevice,
        }
        return tf.distribute.MirroredStrategy(devices, reduction_factories[self.config.reduction]())

    def _create_logical_cpus(self, count: int) -> None:
        import tensorflow as tf

        from expfw_backends.devices import gpus

        tf.config.set_visible_devices([], "GPU")
        (cpu,) = tf.config.list_physical_devices("CPU")
        if len(tf.config.get_logical_device_configuration(cpu) or ()) >= count:
            return  # an earlier run in this process has split it
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise gpus.make_already_used_error(f"backend.cpus={count}") from error
