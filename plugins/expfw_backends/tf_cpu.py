"""Training on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import expfw
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions, disable_meta_optimizer


class TfCpu(TensorFlowBackend):
    """TensorFlow on the CPU cores that the process may use."""

    @dataclass
    class Config(TensorFlowOptions):
        threads: int | None = expfw.option(None, help="threads of one operation; by default one per core", at_least=1)

    def devices(self, run: expfw.Run) -> None:
        import tensorflow as tf

        from expfw_backends.devices import gpus

        tf.config.set_visible_devices([], "GPU")
        disable_meta_optimizer()
        if self.config.threads is not None:
            with gpus.before_first_use(f"backend.threads={self.config.threads}"):
                tf.config.threading.set_intra_op_parallelism_threads(self.config.threads)
