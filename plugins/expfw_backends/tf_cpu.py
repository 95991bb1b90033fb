"""Training on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import expfw
from expfw_backends.devices.machine import before_first_use
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class TfCpu(TensorFlowBackend):
    """TensorFlow on the CPU cores that the process may use."""

    @dataclass
    class Config(TensorFlowOptions):
        threads: int | None = expfw.option(None, help="threads of one operation; by default one per core", at_least=1)

    def devices(self, run: expfw.Run) -> None:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        # It makes no step faster on a CPU, and takes as long as some hundred steps.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        if self.config.threads is not None:
            with before_first_use(f"backend.threads={self.config.threads}"):
                tf.config.threading.set_intra_op_parallelism_threads(self.config.threads)
