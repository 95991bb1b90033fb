"""Base class of the TensorFlow backends: threads, seeds, precision, the engine, saved models."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import expfw

Precision = Literal["float32", "float64", "mixed_bfloat16", "mixed_float16"]
GIB = 2**30


@dataclass
class TensorFlowOptions:
    """Options that every TensorFlow backend has."""

    precision: Precision = expfw.option(
        "float32",
        help="dtype of the Keras layers; mixed: computes in 16 bits, weights in float32; float64: to compare results",
    )
    resident_limit: float = expfw.option(
        4.0,
        help="GiB of preprocessed data of a split to keep in device memory; a larger split is streamed from disk",
        at_least=0,
    )


def count_cores() -> int:
    """Returns the number of CPU cores that this process may use; TensorFlow's default number of threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def disable_meta_optimizer() -> None:
    """Disables TensorFlow's meta optimizer, for training on CPUs.

    It makes no step faster on a CPU, and takes as long as some hundred steps.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


class TensorFlowBackend(expfw.Backend):
    """Trains Keras models and low-level modules under a `tf.distribute` strategy; subclasses choose the strategy."""

    preload = (
        "expfw_backends.devices.lazy_imports",
        "tensorflow",
        "keras",
        "expfw_backends.engine.engine",
        "expfw_backends.devices.precision",
    )
    export_formats = ("keras", "savedmodel", "tflite")
    Config: ClassVar[type] = TensorFlowOptions

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.active_strategy: Any = None
        self.engine: Any = None
        self._predict_cache: tuple[Any, Any, Any] = (None, None, None)

    def devices(self, run: expfw.Run) -> None:
        """Configures devices; TensorFlow accepts these settings only before its first use in the process."""

    def strategy(self) -> Any:
        """Returns the strategy to train under; called after `devices`."""
        import tensorflow as tf

        return tf.distribute.get_strategy()

    def loop(self) -> Any:
        """Returns a factory of compiled loops, called like `expfw_backends.engine.loop.Loop`."""
        from expfw_backends.engine.loop import Loop

        return functools.partial(Loop, resident_bytes=self.config.resident_limit * GIB)

    def prepare(self, config: expfw.RunConfig, run: expfw.Run) -> None:
        import keras
        import tensorflow as tf

        from expfw_backends.devices.precision import check_precision

        if not run.training:
            self.active_strategy = tf.distribute.get_strategy()
            return
        self.devices(run)
        check_precision(self.config.precision)
        keras.utils.set_random_seed(config.seed)
        if config.train.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.active_strategy = self.strategy()
        run.info["threads"] = tf.config.threading.get_intra_op_parallelism_threads() or count_cores()
        run.info["replicas"] = self.active_strategy.num_replicas_in_sync
        run.info["precision"] = self.config.precision

    @contextmanager
    def scope(self) -> Iterator[None]:
        from expfw_backends.devices.precision import use_precision

        with use_precision(self.config.precision), self.active_strategy.scope():
            yield

    def fit(self, config: expfw.RunConfig, run: expfw.Run, model: Any, data: expfw.Splits) -> expfw.Result:
        from expfw_backends.devices.precision import use_precision
        from expfw_backends.engine.engine import Engine

        with use_precision(self.config.precision):  # Keras creates losses and metrics when it first needs them
            self.engine = Engine(self.active_strategy, model, data, run, self.loop())
            result: expfw.Result = self.engine.fit()
        return result

    def describe(self, model: Any) -> Mapping[str, Any]:
        return {"parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables)}

    def summary(self, config: expfw.RunConfig, model: Any, data: expfw.Splits) -> expfw.ModelSummary:
        from expfw_backends.model_info.summary import summarize_model

        with self.scope():  # an optimizer creates its variables on first access
            return summarize_model(model, data.train.take(slice(1)), config.train.batch_size)

    def unsaved_random(self, model: Any, data: expfw.Splits) -> Sequence[str]:
        from expfw_backends.model_info.unsaved_random import find_unsaved_random

        return find_unsaved_random(model, data.train.take(slice(1)))

    def variables(self, model: Any) -> Mapping[str, Any]:
        from expfw_backends.engine.model_arrays import name_variables

        return {name: variable.numpy() for name, variable in name_variables(model.trainable_variables).items()}

    def gradients(self, model: Any) -> Mapping[str, Any]:
        from expfw_backends.engine.model_arrays import name_variables

        gradients = self.engine.gradients() if self.engine is not None else []
        return dict(zip(name_variables(model.trainable_variables), gradients, strict=True)) if gradients else {}

    def predict(self, model: Any, x: Any) -> Any:
        import numpy as np
        import tensorflow as tf

        step = self._get_predict_step(model, x)

        def predict_batch(begin: int) -> Any:
            samples = tf.nest.map_structure(lambda array: tf.constant(array[begin : begin + 1024]), x)
            return tf.nest.map_structure(lambda output: output.numpy(), step(samples))

        output_batches = [predict_batch(begin) for begin in range(0, len(tf.nest.flatten(x)[0]), 1024)]
        return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *output_batches)

    def _get_predict_step(self, model: Any, x: Any) -> Any:
        """Returns a compiled predict step for any number of samples of this shape; caches the latest one."""
        import tensorflow as tf

        input_spec = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), x)
        if self._predict_cache[:2] != (model, input_spec):
            step = tf.function(model.predict_step, input_signature=[input_spec], autograph=False)
            self._predict_cache = (model, input_spec, step)
        return self._predict_cache[2]

    def save(self, model: Any, training: bool) -> expfw.ModelState:
        from expfw_backends.engine.model_arrays import collect_variables, make_model_state

        if training and self.engine is not None:
            state: expfw.ModelState = self.engine.state()
            return state
        return make_model_state(collect_variables(model, training))

    def restore(self, model: Any, state: expfw.ModelState, training: bool) -> None:
        from expfw_backends.engine.model_arrays import assign_arrays, collect_variables

        if training and self.engine is not None:
            self.engine.restore(state)
        else:
            assign_arrays(collect_variables(model, training), state.arrays)

    @expfw.hookimpl
    def expfw_evaluate(
        self, config: expfw.RunConfig, model: Any, data: expfw.Splits, splits: Sequence[str]
    ) -> Mapping[str, Mapping[str, float]]:
        """Returns loss and metrics of a trained model on each split, computed by the same loop as in a run."""
        from expfw_backends.devices.precision import use_precision
        from expfw_backends.engine.evaluations import evaluate_splits

        with use_precision(self.config.precision):
            return evaluate_splits(
                self.active_strategy, model, data, splits, config.train, TensorFlowBackend.loop(self)
            )

    @expfw.hookimpl
    def expfw_export(self, model: Any, data: expfw.DataSpec, path: Path, format: str) -> Callable[[Any], Any] | None:
        """Writes a trained model as a Keras, SavedModel or LiteRT file; returns a predict function of that file."""
        from expfw_backends.model_info.exporting import FORMATS

        return FORMATS[format](model, data, path) if format in FORMATS else None

    @expfw.hookimpl
    def expfw_doctor(self) -> list[tuple[str, bool, str]]:
        """Checks TensorFlow on this machine: its version, import time, the CPU and the GPUs."""
        from expfw_backends.devices.health_check import check_tensorflow

        return check_tensorflow(self.on_gpus)
