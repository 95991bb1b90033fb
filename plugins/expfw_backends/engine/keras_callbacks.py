"""Keras callbacks that a plugin brings, called at the moments Keras would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from expfw import ConfigError, ModelState, Run
from expfw_backends.engine.loop import Values
from expfw_backends.engine.running_means import Means

_OF_BATCHES = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


class KerasCallbacks:
    """Relays a run to `keras.callbacks.Callback` objects; `model.stop_training` ends the run.

    They get Keras' names (`loss`, `val_loss`) and epochs counted from 0.

    Attributes:
        every_step: whether one of them wants to be called for each batch, so that a call of the engine is one step.
    """

    def __init__(self, run: Run, model: Any) -> None:
        given = [_checked(one) for many in run.hook.expfw_keras_callbacks(run=run, model=model) for one in many]
        self.run, self.model, self._given = run, model, given
        self.every_step = any(map(_of_batches, given))
        self._epoch = Means()
        self._logs: dict[str, float] = {}
        self._list: Any = None
        if not given:
            return
        if not isinstance(model, keras.Model):
            raise ConfigError("a plugin brings Keras callbacks, which need a Keras model; this one is a tf.Module")
        if self.every_step:
            names = ", ".join(type(callback).__name__ for callback in given if _of_batches(callback))
            run.message(f"{names} is called for each batch: one step per call, which is many times slower")
        self._list = keras.callbacks.CallbackList(
            given, model=model, epochs=self._epochs(), steps=run.steps_per_epoch, verbose=0
        )
        model.stop_training = False

    def train_begins(self) -> None:
        """Before the first step."""
        if self._list:
            self._list.on_train_begin()

    def epoch_begins(self) -> None:
        """Before the first step of an epoch."""
        if self._list:
            self._list.on_epoch_begin(self.run.epoch)

    def step_begins(self) -> None:
        """Before a call of the engine."""
        if self._list and self.every_step:
            self._list.on_train_batch_begin(self._batch())

    def step_ended(self, values: Values) -> None:
        """After a call of the engine, `run.step` being past it."""
        if not self._list:
            return
        self._epoch.add(values)
        if self.every_step:
            last = {name: float(values.totals[name][-1] / values.counts[name][-1]) for name in values.totals}
            self._list.on_train_batch_end(self._batch(-1), last)
            self._stop()

    def test_begins(self) -> None:
        """Before an evaluation."""
        if self._list:
            self._list.on_test_begin()

    def test_ended(self, means: dict[str, float]) -> None:
        """After an evaluation."""
        if self._list:
            self._logs.update({f"val_{name}": value for name, value in means.items()})
            self._list.on_test_end(means)

    def epoch_ended(self) -> None:
        """After an epoch and its evaluation."""
        if self._list:
            self._end_epoch(self.run.epoch - 1)
            self._stop()

    def train_ended(self) -> None:
        """After the last step; an epoch that was not completed ends here."""
        if self._list:
            if self._batch():
                self._end_epoch(self.run.epoch)
            self._list.on_train_end()

    def state(self) -> ModelState:
        """What they remember, as far as it is plain values and arrays, and the means of the running epoch."""
        arrays: dict[str, np.ndarray] = {}
        values = []
        for number, callback in enumerate(self._given):
            plain, found = _attributes(callback)
            values.append(plain)
            arrays |= {f"{number}/{name}": array for name, array in found.items()}
        stop = bool(getattr(self.model, "stop_training", False))
        return ModelState(arrays, {"of": values, "epoch": self._epoch.state(), "logs": self._logs, "stop": stop})

    def restore(self, state: ModelState) -> None:
        """Takes back what `state` gave; to be called when the training has begun."""
        if not self._given:
            return
        for number, (callback, plain) in enumerate(zip(self._given, state.values["of"], strict=True)):
            if getattr(callback, "monitor_op", self) is None:  # Keras turns the sign when it finds that out
                plain = {**plain, **({"min_delta": abs(plain["min_delta"])} if "min_delta" in plain else {})}
            vars(callback).update(plain)
            for name, value in _attributes_of(state.part(str(number))).items():
                setattr(callback, name, value)
        self._epoch.restore(state.values["epoch"])
        self._logs, self.model.stop_training = dict(state.values["logs"]), state.values["stop"]

    def _end_epoch(self, number: int) -> None:
        logs, self._logs = {**self._epoch.take(""), **self._logs}, {}
        self._list.on_epoch_end(number, logs)

    def _epochs(self) -> int:
        return -(-(self.run.total_steps or 0) // (self.run.steps_per_epoch or 1))

    def _batch(self, offset: int = 0) -> int:
        return (self.run.step + offset) % (self.run.steps_per_epoch or 1)

    def _stop(self) -> None:
        if self.model.stop_training:
            self.run.request_stop("a Keras callback asked for it (model.stop_training)")


def _checked(callback: Any) -> Any:
    if not isinstance(callback, keras.callbacks.Callback):
        raise ConfigError(f"a plugin brings {callback!r} as a Keras callback; expected a keras.callbacks.Callback")
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        raise ConfigError(
            "a plugin brings BackupAndRestore, which would restore weights without the place in the training; use the "
            "callback `checkpoint`, and train.begin_from"
        )
    return callback


def _of_batches(callback: Any) -> bool:
    """Whether a batch method of its own does something; LambdaCallback has them on the instance."""
    if getattr(callback, "save_freq", None) == "epoch":  # ModelCheckpoint has them, for another save_freq
        return False
    base = keras.callbacks.Callback
    methods = {name: getattr(callback, name) for name in _OF_BATCHES}
    return any(getattr(method, "__func__", method) is not getattr(base, name) for name, method in methods.items())


def _attributes(callback: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Its attributes that are plain values; and those that are lists of arrays, as the weights it found best."""
    plain: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, value in vars(callback).items():
        if name in ("params", "_model"):
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            arrays[name] = np.array(value)
        elif isinstance(value, list) and value and all(isinstance(one, np.ndarray) for one in value):
            arrays |= {f"{name}/{number:03d}": np.array(one) for number, one in enumerate(value)}
        elif _is_plain(value):
            plain[name] = value
    return plain, arrays


def _is_plain(value: Any) -> bool:
    """Whether it comes back from JSON as it was."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _attributes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The attributes that these arrays were: `name` for an array, `name/000` and so on for a list."""
    found: dict[str, Any] = {}
    for name, array in sorted(arrays.items(), key=lambda item: (len(item[0]), item[0])):
        attribute, _, number = name.partition("/")
        if number:
            found.setdefault(attribute, []).append(array)
        else:
            found[attribute] = array
    return found
