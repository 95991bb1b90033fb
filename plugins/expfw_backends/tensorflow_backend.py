"""What every TensorFlow backend shares: threads, seeds, the engine, and the arrays of a model on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import expfw


def _cores() -> int:
    """How many this process may use; what TensorFlow takes where it is told nothing."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TensorFlowBackend(expfw.Backend):
    """Trains Keras models and low-level modules under a `tf.distribute` strategy; subclasses choose which."""

    preload: ClassVar = ("tensorflow", "keras")

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.chosen_strategy: Any = None

    def devices(self) -> None:
        """Settings of the process that TensorFlow takes only before its first use."""

    def strategy(self) -> Any:
        """The strategy to train under; made after `devices`."""
        import tensorflow as tf

        return tf.distribute.get_strategy()

    def prepare(self, config: expfw.RunConfig, run: expfw.Run) -> None:
        import keras
        import tensorflow as tf

        self.devices()
        keras.utils.set_random_seed(config.seed)
        if config.train.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.chosen_strategy = self.strategy()
        run.info["threads"] = tf.config.threading.get_intra_op_parallelism_threads() or _cores()
        run.info["replicas"] = self.chosen_strategy.num_replicas_in_sync

    def scope(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.chosen_strategy.scope()
        return context

    def fit(self, config: expfw.RunConfig, run: expfw.Run, model: Any, data: expfw.Splits) -> expfw.Result:
        from expfw_backends.engine import Engine

        return Engine(self.chosen_strategy, model, data, run).fit()

    def describe(self, model: Any) -> Mapping[str, Any]:
        return {"parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables)}

    def predict(self, model: Any, x: Any) -> Any:
        import numpy as np
        import tensorflow as tf

        step = tf.function(model.predict_step, reduce_retracing=True)
        parts = [step(tf.constant(x[i : i + 1024])).numpy() for i in range(0, len(x), 1024)]
        return np.concatenate(parts)

    def save(self, model: Any, path: Path, training: bool) -> None:
        from expfw_backends.arrays import save_arrays

        save_arrays(model, path, training)

    def restore(self, model: Any, path: Path, training: bool) -> None:
        from expfw_backends.arrays import restore_arrays

        restore_arrays(model, path, training)
