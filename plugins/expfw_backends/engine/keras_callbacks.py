"""Keras callbacks of plugins, called at the same points of the training as in Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from expfw import ConfigError, ModelState, Run
from expfw_backends.engine.loop import RunningMeans, StepValues

_BATCH_METHODS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


class KerasCallbacks:
    """Calls the `keras.callbacks.Callback` objects of plugins; `model.stop_training` stops the run.

    The callbacks receive the metric names of Keras (`loss`, `val_loss`) and epochs counted from 0.

    Attributes:
        needs_every_step: whether a callback has methods for each batch; each call of the engine is then one step.
    """

    def __init__(self, run: Run, model: Any) -> None:
        callbacks = [
            _check_callback(callback)
            for answer in run.hook.expfw_keras_callbacks(run=run, model=model)
            for callback in answer
        ]
        self.run, self.model, self._callbacks = run, model, callbacks
        self.needs_every_step = any(map(_has_batch_methods, callbacks))
        self._epoch_means = RunningMeans()
        self._logs: dict[str, float] = {}
        self._callback_list: Any = None
        if not callbacks:
            return
        if not isinstance(model, keras.Model):
            raise ConfigError(
                "a plugin provides Keras callbacks, which need a Keras model, but this model is a tf.Module; use a "
                "Keras model or remove the plugin"
            )
        if self.needs_every_step:
            names = ", ".join(type(callback).__name__ for callback in callbacks if _has_batch_methods(callback))
            run.message(f"{names} is called for each batch: one step per call, which is many times slower")
        self._callback_list = keras.callbacks.CallbackList(
            callbacks, model=model, epochs=self._count_epochs(), steps=run.steps_per_epoch, verbose=0
        )
        model.stop_training = False

    def on_train_begin(self) -> None:
        """Called before the first step."""
        if self._callback_list:
            self._callback_list.on_train_begin()

    def on_epoch_begin(self) -> None:
        """Called before the first step of an epoch."""
        if self._callback_list:
            self._callback_list.on_epoch_begin(self.run.epoch)

    def on_step_begin(self) -> None:
        """Called before a call of the engine."""
        if self._callback_list and self.needs_every_step:
            self._callback_list.on_train_batch_begin(self._get_batch_number())

    def on_step_end(self, values: StepValues) -> None:
        """Called after a call of the engine, with `run.step` already increased."""
        if not self._callback_list:
            return
        self._epoch_means.add(values)
        if self.needs_every_step:
            logs = {name: float(values.totals[name][-1] / values.counts[name][-1]) for name in values.totals}
            self._callback_list.on_train_batch_end(self._get_batch_number(-1), logs)
            self._stop_if_requested()

    def on_test_begin(self) -> None:
        """Called before an evaluation."""
        if self._callback_list:
            self._callback_list.on_test_begin()

    def on_test_end(self, means: dict[str, float]) -> None:
        """Called after an evaluation."""
        if self._callback_list:
            self._logs.update({f"val_{name}": value for name, value in means.items()})
            self._callback_list.on_test_end(means)

    def on_epoch_end(self) -> None:
        """Called after an epoch and its evaluation."""
        if self._callback_list:
            self._end_epoch(self.run.epoch - 1)
            self._stop_if_requested()

    def on_train_end(self) -> None:
        """Called after the last step; ends an incomplete epoch."""
        if self._callback_list:
            if self._get_batch_number():
                self._end_epoch(self.run.epoch)
            self._callback_list.on_train_end()

    def state(self) -> ModelState:
        """Returns the plain values and arrays in the callbacks, and the means of the current epoch."""
        arrays: dict[str, np.ndarray] = {}
        values = []
        for number, callback in enumerate(self._callbacks):
            plain_values, attribute_arrays = _split_attributes(callback)
            values.append(plain_values)
            arrays |= {f"{number}/{name}": array for name, array in attribute_arrays.items()}
        stop_training = bool(getattr(self.model, "stop_training", False))
        return ModelState(
            arrays, {"of": values, "epoch": self._epoch_means.state(), "logs": self._logs, "stop": stop_training}
        )

    def restore(self, state: ModelState) -> None:
        """Restores a state that `state` returned; called after `on_train_begin`."""
        if not self._callbacks:
            return
        for number, (callback, plain_values) in enumerate(zip(self._callbacks, state.values["of"], strict=True)):
            if getattr(callback, "monitor_op", self) is None:  # Keras flips the sign when it sets `monitor_op`
                plain_values = {
                    **plain_values,
                    **({"min_delta": abs(plain_values["min_delta"])} if "min_delta" in plain_values else {}),
                }
            vars(callback).update(plain_values)
            for name, value in _join_attributes(state.part(str(number))).items():
                setattr(callback, name, value)
        self._epoch_means.restore(state.values["epoch"])
        self._logs, self.model.stop_training = dict(state.values["logs"]), state.values["stop"]

    def _end_epoch(self, number: int) -> None:
        logs, self._logs = {**self._epoch_means.take(""), **self._logs}, {}
        self._callback_list.on_epoch_end(number, logs)

    def _count_epochs(self) -> int:
        return -(-(self.run.total_steps or 0) // (self.run.steps_per_epoch or 1))

    def _get_batch_number(self, offset: int = 0) -> int:
        return (self.run.step + offset) % (self.run.steps_per_epoch or 1)

    def _stop_if_requested(self) -> None:
        if self.model.stop_training:
            self.run.request_stop("stopped by a Keras callback (model.stop_training)")


def _check_callback(callback: Any) -> Any:
    if not isinstance(callback, keras.callbacks.Callback):
        raise ConfigError(f"a plugin provides {callback!r} as a Keras callback; expected a keras.callbacks.Callback")
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        raise ConfigError(
            "a plugin provides the Keras callback BackupAndRestore, which would restore weights without the step; use "
            "the callback `checkpoint` and train.begin_from"
        )
    return callback


def _has_batch_methods(callback: Any) -> bool:
    """Returns whether the callback overrides a batch method; LambdaCallback sets them on the instance."""
    if (
        getattr(callback, "save_freq", None) == "epoch"
    ):  # ModelCheckpoint has batch methods for other values of save_freq
        return False
    base = keras.callbacks.Callback
    methods = {name: getattr(callback, name) for name in _BATCH_METHODS}
    return any(getattr(method, "__func__", method) is not getattr(base, name) for name, method in methods.items())


def _split_attributes(callback: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the attributes that are plain values, and those that are arrays or lists of arrays."""
    plain_values: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, value in vars(callback).items():
        if name in ("params", "_model"):
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            arrays[name] = np.array(value)
        elif isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
            arrays |= {f"{name}/{number:03d}": np.array(item) for number, item in enumerate(value)}
        elif _is_plain(value):
            plain_values[name] = value
    return plain_values, arrays


def _is_plain(value: Any) -> bool:
    """Returns whether a value survives a round trip through JSON."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(nested_value) for key, nested_value in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _join_attributes(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Rebuilds the attributes from arrays: `name` is an array, `name/000` and following are a list."""
    attributes: dict[str, Any] = {}
    for name, array in sorted(arrays.items(), key=lambda item: (len(item[0]), item[0])):
        attribute, _, number = name.partition("/")
        if number:
            attributes.setdefault(attribute, []).append(array)
        else:
            attributes[attribute] = array
    return attributes
