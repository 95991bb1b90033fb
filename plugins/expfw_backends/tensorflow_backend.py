"""Base class of the TensorFlow backends: threads, seeds, precision, the engine, saved models."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import expfw
from expfw_backends.devices.machine import check_tensorflow, read_cpu_flags

if TYPE_CHECKING:
    from expfw_backends.engine.engine import Engine

Precision = Literal["float32", "float64", "mixed_bfloat16", "mixed_float16"]
GIB = 2**30
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # of CPUs: Intel and AMD, Intel's matrix units, Arm
_PREDICTED_SAMPLES = 1024  # samples per call of the model


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
    soft_placement: bool = expfw.option(
        True, help="use another device, such as the CPU, for operations that their device cannot run"
    )
    log_device_placement: bool = expfw.option(False, help="write the device of each operation to log.txt of the run")


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Within the context, new Keras layers use this precision; losses and metrics are float64, or otherwise float32."""
    import keras

    previous_policy, previous_floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float64" if name == "float64" else "float32")
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(previous_floatx)
        keras.config.set_dtype_policy(previous_policy)


def check_precision(precision: str) -> None:
    """Rejects a precision that is slow on this machine."""
    import tensorflow as tf

    if tf.config.get_visible_devices("GPU"):
        return
    if precision == "mixed_bfloat16" and read_cpu_flags().isdisjoint(BFLOAT16_FLAGS):
        raise expfw.ConfigError(
            "backend.precision=mixed_bfloat16: this CPU has no bfloat16 instructions (avx512_bf16 or amx_bf16), so "
            "training would be many times slower than with float32; use float32"
        )
    if precision == "mixed_float16":
        raise expfw.ConfigError(
            "backend.precision=mixed_float16 is for GPUs; on a CPU it is many times slower than float32. "
            "Use mixed_bfloat16, or float32"
        )


class TensorFlowBackend(expfw.Backend):
    """Trains Keras models and low-level modules under a `tf.distribute` strategy; subclasses choose the strategy."""

    preload = ("expfw_backends.devices.lazy_imports", "tensorflow", "keras", "expfw_backends.engine.engine")
    export_formats = ("keras", "savedmodel", "tflite")
    Config: ClassVar[type] = TensorFlowOptions

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self.active_strategy: Any = None
        self.engine: Engine | None = None
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

        if not run.training:
            self.active_strategy = tf.distribute.get_strategy()
            return
        tf.config.set_soft_device_placement(self.config.soft_placement)
        tf.debugging.set_log_device_placement(self.config.log_device_placement)
        self.devices(run)
        check_precision(self.config.precision)
        keras.utils.set_random_seed(config.seed)
        if config.train.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.active_strategy = self.strategy()
        has_affinity = hasattr(os, "sched_getaffinity")  # TensorFlow's default is one thread per usable core
        cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        run.info["threads"] = tf.config.threading.get_intra_op_parallelism_threads() or cores
        run.info["replicas"] = self.active_strategy.num_replicas_in_sync
        run.info["precision"] = self.config.precision

    @contextmanager
    def scope(self) -> Iterator[None]:
        with use_precision(self.config.precision), self.active_strategy.scope():
            yield

    def fit(self, config: expfw.RunConfig, run: expfw.Run, model: Any, data: expfw.Splits) -> expfw.Result:
        from expfw_backends.engine.engine import Engine

        with use_precision(self.config.precision):  # Keras creates losses and metrics when it first needs them
            self.engine = Engine(self.active_strategy, model, data, run, self.loop())
            return self.engine.fit()

    def describe(self, model: Any) -> Mapping[str, Any]:
        return {"parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables)}

    def summary(self, config: expfw.RunConfig, model: Any, data: expfw.Splits) -> expfw.ModelSummary:
        from expfw_backends.model_info.summary import summarize_model

        with self.scope():  # an optimizer creates its variables on first access
            return summarize_model(model, data.train.take(slice(1)), config.train.batch_size)

    def unsaved_random(self, model: Any, data: expfw.Splits) -> Sequence[str]:
        from expfw_backends.model_info.summary import find_unsaved_random

        return find_unsaved_random(model, data.train.take(slice(1)))

    def variables(self, model: Any) -> Mapping[str, Any]:
        from expfw_backends.engine.model_arrays import name_variables

        return {name: variable.numpy() for name, variable in name_variables(model.trainable_variables).items()}

    def gradients(self, model: Any) -> Mapping[str, Any]:
        from expfw_backends.engine.model_arrays import name_variables

        gradients = self.engine.update.kept_gradients if self.engine is not None and self.engine.update else []
        pairs = zip(name_variables(model.trainable_variables), gradients, strict=bool(gradients))
        return {name: gradient.numpy() for name, gradient in pairs}

    def predict(self, model: Any, x: Any) -> Any:
        import numpy as np
        import tensorflow as tf

        spec = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), x)
        if self._predict_cache[:2] != (model, spec):  # one trace for any number of samples of this shape
            step = tf.function(model.predict_step, input_signature=[spec], autograph=False)
            self._predict_cache = (model, spec, step)
        batches = []
        for begin in range(0, len(tf.nest.flatten(x)[0]), _PREDICTED_SAMPLES):
            batch = tf.nest.map_structure(lambda array, begin=begin: array[begin : begin + _PREDICTED_SAMPLES], x)
            output = self._predict_cache[2](tf.nest.map_structure(tf.constant, batch))
            batches.append(tf.nest.map_structure(lambda part: part.numpy(), output))
        return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *batches)

    def save(self, model: Any, training: bool) -> expfw.ModelState:
        from expfw_backends.engine.model_arrays import collect_variables, make_model_state

        if training and self.engine is not None:
            return self.engine.state()
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
        from expfw_backends.engine.trainable import TrainableModel

        # Without options that apply to the training only.
        train = dataclasses.replace(config.train, accumulate=1, average=None, clip_norm=None, clip_value=None)
        with use_precision(self.config.precision):
            trainable = TrainableModel(self.active_strategy, model, data, train, TensorFlowBackend.loop(self))
            return {name: trainable.evaluate(getattr(data, name)) for name in splits}

    @expfw.hookimpl
    def expfw_export(self, model: Any, data: expfw.DataSpec, path: Path, format: str) -> Callable[[Any], Any] | None:
        """Writes a trained model as a Keras, SavedModel or LiteRT file; returns a predict function of that file."""
        from expfw_backends.model_info.exporting import FORMATS

        return FORMATS[format](model, data, path) if format in FORMATS else None

    @expfw.hookimpl
    def expfw_doctor(self) -> list[tuple[str, bool, str]]:
        """Checks TensorFlow on this machine: its version, import time, the CPU and the GPUs."""
        return check_tensorflow(self.on_gpus)
