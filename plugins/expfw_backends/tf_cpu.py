"""Training on the processor."""

from __future__ import annotations

from dataclasses import dataclass

import expfw
from expfw_backends.tensorflow_backend import TensorFlowBackend, TensorFlowOptions


class TfCpu(TensorFlowBackend):
    """TensorFlow on the processor cores that the process may use."""

    @dataclass
    class Config(TensorFlowOptions):
        threads: int | None = expfw.option(None, help="threads of one operation; by default one per core")

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.threads is not None and self.threads < 1:
                raise ValueError(f"threads is {self.threads}; expected 1 or more")

    def devices(self, run: expfw.Run) -> None:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        # What it finds in a graph on a processor makes no step quicker, and it takes as long as some hundred of them.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        if self.config.threads is None:
            return
        try:
            tf.config.threading.set_intra_op_parallelism_threads(self.config.threads)
        except RuntimeError as error:
            raise expfw.ConfigError(
                f"backend.threads={self.config.threads} cannot be set: TensorFlow was used in this process already; "
                "start a new process"
            ) from error
