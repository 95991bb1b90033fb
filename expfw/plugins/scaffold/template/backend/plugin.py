"""A backend for expfw: `backend=my_plugin`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import expfw
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class MyPlugin(TensorFlowBackend):
    """TensorFlow on one device of your choice, with expfw's engine.

    Override `strategy` for other devices, `devices` for settings that TensorFlow takes before its first use. A backend
    of another framework subclasses `expfw.Backend` instead, and answers all its methods.
    """

    @dataclass
    class Config(TensorFlowOptions):
        device: str = expfw.option("CPU:0", help="the device to train on, such as CPU:0 or GPU:1")

    def strategy(self) -> Any:
        import tensorflow as tf  # here, so that expfw can list plugins without it

        kind = self.config.device.partition(":")[0]
        known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices(kind)]
        if self.config.device not in known:
            there = ", ".join(known) or f"no {kind}"
            raise expfw.ConfigError(f"backend.device is {self.config.device!r}; there is {there}")
        return tf.distribute.OneDeviceStrategy(f"/{self.config.device}")
