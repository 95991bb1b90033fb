"""A backend for expfw: `backend=my_plugin`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import expfw
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class MyPlugin(TensorFlowBackend):
    """TensorFlow on one selected device, with expfw's engine.

    Override `strategy` for other devices, and `devices` for settings that TensorFlow needs before its first use. A
    backend for another framework subclasses `expfw.Backend` instead and implements all its methods.
    """

    @dataclass
    class Config(TensorFlowOptions):
        device: str = expfw.option("CPU:0", help="device for the training, such as CPU:0 or GPU:1")

    def strategy(self) -> Any:
        import tensorflow as tf  # here, so that expfw can list plugins without it

        kind = self.config.device.partition(":")[0]
        known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices(kind)]
        if self.config.device not in known:
            available = ", ".join(known) or f"no {kind}"
            raise expfw.ConfigError(f"unknown device backend.device={self.config.device!r}. Available: {available}")
        return tf.distribute.OneDeviceStrategy(f"/{self.config.device}")
