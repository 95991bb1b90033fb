"""Plugins with one fault each; each class is named after the contract check that finds it."""

from __future__ import annotations

import sys
import time
import types
from dataclasses import dataclass

import numpy as np

import expfw
from expfw_backends.tf_cpu import TfCpu


def make_network(data, layers=(), **compile_options):
    import keras

    stack = [keras.layers.Input(data.input_shape), keras.layers.Flatten(), *layers]
    model = keras.Sequential([*stack, keras.layers.Dense(data.classes, "softmax")])
    model.compile(**{"optimizer": "adam", "loss": "sparse_categorical_crossentropy"} | compile_options)
    return model


class Good(expfw.Model):
    """A model without faults; each model below has one fault."""

    def build(self, data):
        return make_network(data)


class ClassFault(expfw.Model):
    """Cannot be constructed."""

    def __init__(self):
        super().__init__(None, "x")


class OptionsFault(expfw.Model):
    """Has an option without a help text."""

    @dataclass
    class Config:
        units: int = 3

    def build(self, data):
        return make_network(data)


class DefaultFault(expfw.Model):
    """Has a default of the wrong type."""

    @dataclass
    class Config:
        units: int = expfw.option("many", help="how wide")

    def build(self, data):
        return make_network(data)


class MethodsFault(expfw.Model):
    """Has a build method without the data argument."""

    def build(self):
        return None


class HooksFault(expfw.Callback):
    """Implements an unknown hook."""

    @expfw.hookimpl
    def expfw_epoch_finished(self, run):
        pass


class RoundTripFault(expfw.Model):
    """Changes its options."""

    @dataclass
    class Config:
        units: int = expfw.option(3, help="how wide")

        def __post_init__(self):
            self.units *= 2

    def build(self, data):
        return make_network(data)


class BadOptionsFault(expfw.Model):
    """Does not validate its options; Keras rejects them."""

    @dataclass
    class Config:
        units: int = expfw.option(3, help="how wide")

    def build(self, data):
        import keras

        return make_network(data, [keras.layers.Dense(self.config.units)])


class TrainsFault(expfw.Callback):
    """Raises in a hook."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        raise RuntimeError("no good")


class SeedFault(expfw.Callback):
    """Logs the current time."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.log({"mine": time.time()})


class ResumeFault(expfw.Callback):
    """Has a random generator that is not in the checkpoint."""

    def __init__(self, config, name):
        super().__init__(config, name)
        self.generator = np.random.default_rng(0)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.log({"mine": self.generator.normal()})


class EarlyFault(expfw.Callback):
    """Stops every run after one epoch."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.request_stop("enough")


class TrialFault(expfw.Model):
    """Works only in the process of the test."""

    def build(self, data):
        if "pytest" not in sys.modules:
            raise RuntimeError("where is my table?")
        return make_network(data)


class BuildsFault(expfw.Model):
    """Builds nothing."""

    def build(self, data):
        make_network(data)


class CompileFault(expfw.Model):
    """Builds a model that is not compiled."""

    def build(self, data):
        import keras

        return keras.Sequential([keras.layers.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(3)])


class WidthFault(expfw.Model):
    """Ignores the number of classes."""

    def build(self, data):
        return make_network(expfw.DataSpec(data.input_shape, 7))


class LossFault(expfw.Model):
    """Does not learn."""

    def build(self, data):
        import keras

        return make_network(data, optimizer=keras.optimizers.SGD(0.0))


class SavedFault(expfw.Model):
    """Draws a random constant when it is built."""

    def build(self, data):
        import keras

        return make_network(data, [keras.layers.Rescaling(float(np.random.uniform(1, 2)))])


class ReplicasFault(expfw.Model):
    """Normalises each part of a batch separately."""

    def build(self, data):
        import keras

        return make_network(data, [keras.layers.Dense(4), keras.layers.BatchNormalization()])


class RandomFault(expfw.Model):
    """Draws from TensorFlow's global random state."""

    def build(self, data):
        import keras
        import tensorflow as tf

        class Noise(keras.layers.Layer):
            def call(self, x):
                return x + 0.01 * tf.random.normal(tf.shape(x))

        return make_network(data, [Noise()])


class BackendLossFault(TfCpu):
    """Does not apply gradients."""

    def fit(self, config, run, model, data):
        model.optimizer.learning_rate = 0.0
        return super().fit(config, run, model, data)


class OrderFault(TfCpu):
    """Ignores requested hook steps."""

    def fit(self, config, run, model, data):
        run.next_hook_step = lambda: None
        return super().fit(config, run, model, data)


class StopFault(TfCpu):
    """Ignores stop requests."""

    def fit(self, config, run, model, data):
        run.request_stop = lambda reason: None
        return super().fit(config, run, model, data)


class DescribeFault(TfCpu):
    """Reports a wrong number of parameters."""

    def describe(self, model):
        return {"parameters": 1}


class BackendSavedFault(TfCpu):
    """Saves zeros."""

    def save(self, model, training):
        state = super().save(model, training)
        if training:
            return state
        return expfw.ModelState({name: np.zeros_like(array) for name, array in state.arrays.items()})


class BackendResumeFault(TfCpu):
    """Does not save the state of the optimizer."""

    def save(self, model, training):
        state = super().save(model, training)
        arrays = {name: a * 0 if name.startswith("optimizer") else a for name, a in state.arrays.items()}
        return expfw.ModelState(arrays, state.values, state.names)


class RejectFault(TfCpu):
    """Accepts any state."""

    def restore(self, model, state, training):
        pass


class SameAsFault(TfCpu):
    """Uses a different seed."""

    def prepare(self, config, run):
        super().prepare(config, run)
        import keras

        keras.utils.set_random_seed(config.seed + 1)


class StateFault(expfw.Callback):
    """Does not restore its state."""

    def __init__(self, config, name):
        super().__init__(config, name)
        self.epochs = 0

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.epochs += 1

    def state(self):
        return {"epochs": self.epochs}


class Numbers(expfw.Dataset):
    """A dataset without faults; each dataset below has one fault."""

    uses_seed = False

    def load(self, seed):
        x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
        split = expfw.Split(x, (np.arange(32) % 2).astype(np.int32))
        return expfw.Splits(expfw.DataSpec((3,), 2), split, split)


class LoadFault(Numbers):
    """Returns numbers of 64 bits."""

    def load(self, seed):
        data = super().load(seed)
        split = expfw.Split(data.train.x.astype(np.float64), data.train.y)
        return expfw.Splits(data.spec, split)


class DataSeedFault(Numbers):
    """Draws from NumPy's global random state."""

    def load(self, seed):
        data = super().load(seed)
        split = expfw.Split(np.random.normal(size=(32, 3)).astype(np.float32), data.train.y)
        return expfw.Splits(data.spec, split)


class UsesSeedFault(Numbers):
    """Declares that it does not use the seed."""

    def load(self, seed):
        data = super().load(seed)
        return expfw.Splits(data.spec, expfw.Split(data.train.x + np.float32(seed), data.train.y))


class IdentityFault(Numbers):
    """Has a different identity each time."""

    def identity(self):
        return {"now": time.monotonic_ns()}


class FrameworkFault(Numbers):
    """Imports another framework."""

    def load(self, seed):
        sys.modules.setdefault("torch", types.ModuleType("torch"))
        return super().load(seed)


class InverseFault(Numbers):
    """Has a preprocessing that cannot be inverted."""

    def load(self, seed):
        data = super().load(seed)
        spec = expfw.DataSpec((3,), 2, preprocessing=expfw.AffineScaling(np.zeros(3)))
        return expfw.Splits(spec, data.train, data.validation)


class Lines(expfw.Tracker):
    """A tracker without faults, in memory; each tracker below has one fault."""

    delivered_points: dict = {}  # noqa: RUF012  # replaces a server

    def destination(self, runs_dir):
        return "memory"

    def ship(self, folder, state, records):
        for record in records:
            if record["kind"] == "run_started":
                state["run"] = record["id"]
            if record["kind"] == "metrics" and "run" in state:
                for name, value in record["values"].items():
                    self.store_point(state, name, record["step"], value)

    def store_point(self, state, name, step, value):
        self.delivered_points.setdefault(state["run"], {})[name, step] = [value]


class DestinationFault(Lines):
    """Has a different destination each time."""

    def destination(self, runs_dir):
        return f"memory {time.monotonic_ns()}"


class DeliversFault(Lines):
    """Skips some points."""

    def store_point(self, state, name, step, value):
        if step != 4:
            super().store_point(state, name, step, value)


class AgainFault(Lines):
    """Stores duplicates."""

    def store_point(self, state, name, step, value):
        self.delivered_points.setdefault(state["run"], {}).setdefault((name, step), []).append(value)


class ProcessFault(Lines):
    """Keeps the run ID in memory, not in its state."""

    def ship(self, folder, state, records):
        for record in records:
            if record["kind"] == "run_started":
                self.run = record["id"]
        super().ship(folder, {"run": self.run}, records)


class SweepFault(Lines):
    """Supports only runs, not sweeps."""

    def ship(self, folder, state, records):
        if not state and records[0]["kind"] != "run_started":
            raise KeyError(records[0]["kind"])
        super().ship(folder, state, records)
