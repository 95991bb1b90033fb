"""Keras callbacks of plugins, called at the same points of the training as in Keras."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import keras
import numpy as np

from expfw import ConfigError, ModelState, Run
from expfw_backends.engine.loop import RunningMeans, StepValues

_BATCH_METHODS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


class KerasCallbacks(keras.callbacks.CallbackList):
    """The `keras.callbacks.Callback` objects of plugins; `model.stop_training` stops the run.

    The callbacks receive the metric names of Keras (`loss`, `val_loss`) and epochs counted from 0. If one of them has
    methods for each batch, it `needs_every_step`: each call of the engine is then one step.
    """

    def __init__(self, run: Run, model: Any) -> None:
        callbacks = list(itertools.chain.from_iterable(run.hook.expfw_keras_callbacks(run=run, model=model)))
        if callbacks and not isinstance(model, keras.Model):
            raise ConfigError(
                "a plugin provides Keras callbacks, which need a Keras model, but this model is a tf.Module; use a "
                "Keras model or remove the plugin"
            )
        slow_names = []
        for callback in callbacks:
            is_callback = isinstance(callback, keras.callbacks.Callback)
            if not is_callback or isinstance(callback, keras.callbacks.BackupAndRestore):
                raise ConfigError(
                    f"a plugin provides a {type(callback).__name__} as a Keras callback; expected a "
                    "keras.callbacks.Callback, but not BackupAndRestore, which would restore weights without the step "
                    "(use the callback `checkpoint` and train.begin_from)"
                )
            # Keras marks its own empty methods with `_is_default`; LambdaCallback sets methods on the instance.
            overrides = [m for m in _BATCH_METHODS if not getattr(getattr(callback, m), "_is_default", False)]
            # ModelCheckpoint has batch methods for other values of save_freq.
            if overrides and getattr(callback, "save_freq", None) != "epoch":
                slow_names.append(type(callback).__name__)
        if slow_names:
            run.message(
                f"{', '.join(slow_names)} is called for each batch: one step per call, which is many times slower"
            )
        steps_per_epoch = run.steps_per_epoch or 1
        epochs = -(-(run.total_steps or 0) // steps_per_epoch)
        super().__init__(callbacks, model=model, epochs=epochs, steps=run.steps_per_epoch, verbose=0)
        if callbacks:
            model.stop_training = False
        self.run, self.steps_per_epoch, self.needs_every_step = run, steps_per_epoch, bool(slow_names)
        self._epoch_means = RunningMeans()
        self._logs: dict[str, float] = {}

    def end_steps(self, values: StepValues, position: int) -> None:
        """Called after a call of the engine, whose first step is at this position in the epoch."""
        if self.callbacks:
            self._epoch_means.add(values)
        if self.needs_every_step:
            logs = {name: float(values.totals[name][-1] / values.counts[name][-1]) for name in values.totals}
            self.on_train_batch_end(position, logs)
            self._stop_if_requested()

    def on_test_end(self, logs: dict[str, float]) -> None:
        if self.callbacks:
            self._logs.update({f"val_{name}": value for name, value in logs.items()})
        super().on_test_end(logs)

    def on_epoch_end(self, epoch: int) -> None:
        logs, self._logs = {**self._epoch_means.take(""), **self._logs}, {}
        super().on_epoch_end(epoch, logs)
        if epoch < self.run.epoch:  # else it is incomplete, because the training has ended
            self._stop_if_requested()

    def on_train_end(self) -> None:
        if self.run.step % self.steps_per_epoch:  # ends an incomplete epoch
            self.on_epoch_end(self.run.epoch)
        super().on_train_end()

    def state(self) -> ModelState:
        """Returns the plain values and arrays in the callbacks, and the means of the current epoch."""
        arrays: dict[str, np.ndarray] = {}
        values: list[dict[str, Any]] = []
        for number, callback in enumerate(self.callbacks):
            values.append({})
            for name, value in vars(callback).items():
                value = value.item() if isinstance(value, np.generic) else value
                if isinstance(value, np.ndarray):
                    arrays[f"{number}/{name}"] = np.array(value)
                elif isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
                    arrays |= {f"{number}/{name}/{index:03d}": np.array(item) for index, item in enumerate(value)}
                elif name not in ("params", "_model") and _is_plain(value):
                    values[number][name] = value
        epoch_means, stop = dataclasses.asdict(self._epoch_means), bool(getattr(self.model, "stop_training", False))
        return ModelState(arrays, {"of": values, "epoch": epoch_means, "logs": self._logs, "stop": stop})

    def restore(self, state: ModelState) -> None:
        """Restores a state that `state` returned; called after `on_train_begin`."""
        if not self.callbacks:
            return
        for number, (callback, values) in enumerate(zip(self.callbacks, state.values["of"], strict=True)):
            if getattr(callback, "monitor_op", self) is None and "min_delta" in values:
                values["min_delta"] = abs(values["min_delta"])  # Keras flips the sign when it sets `monitor_op`
            lists: dict[str, list[np.ndarray]] = {}
            arrays = state.part(str(number))
            for name in sorted(arrays, key=lambda name: (len(name), name)):
                attribute, _, index = name.partition("/")
                if index:
                    lists.setdefault(attribute, []).append(arrays.pop(name))
            vars(callback).update({**values, **arrays, **lists})
        self._epoch_means = RunningMeans(**state.values["epoch"])
        self._logs, self.model.stop_training = dict(state.values["logs"]), state.values["stop"]

    def _stop_if_requested(self) -> None:
        if self.callbacks and self.model.stop_training:
            self.run.request_stop("stopped by a Keras callback (model.stop_training)")


def _is_plain(value: Any) -> bool:
    """Returns whether a value survives a round trip through JSON."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(nested_value) for key, nested_value in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
