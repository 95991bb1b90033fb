"""Synchronous training on several devices of one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import expfw
from expfw_backends.devices.machine import before_first_use, select_gpus
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

        count = self.config.cpus
        if count is not None:
            tf.config.set_visible_devices([], "GPU")
            (cpu,) = tf.config.list_physical_devices("CPU")
            if len(tf.config.get_logical_device_configuration(cpu) or ()) < count:  # an earlier run may have split it
                with before_first_use(f"backend.cpus={count}"):
                    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
            return
        selected_gpus = select_gpus("backend.devices", self.config.devices, "split the CPU with backend.cpus=2")
        with before_first_use("backend.devices"):
            tf.config.set_visible_devices(selected_gpus, "GPU")
            for gpu in selected_gpus:
                tf.config.experimental.set_memory_growth(gpu, True)

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
