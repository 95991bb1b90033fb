"""Plugins with one fault each; each class is named after the contract check that finds it."""

from __future__ import annotations

import sys
import time
import types
from dataclasses import dataclass

import numpy as np

import expfw
from expfw_backends.tf_cpu import TfCpu


class Good(expfw.Model):  # a model without faults; each model below has one fault
    learning_rate = 0.001

    def build(self, data):
        import keras

        stack = [keras.layers.Input(data.input_shape), keras.layers.Flatten(), *self.make_layers(keras)]
        model = keras.Sequential([*stack, keras.layers.Dense(data.classes, "softmax")])
        model.compile(keras.optimizers.Adam(self.learning_rate), "sparse_categorical_crossentropy")
        return model

    def make_layers(self, keras):
        return []


class ClassFault(expfw.Model):  # cannot be constructed
    def __init__(self):
        super().__init__(None, "x")


class OptionsFault(Good):  # has an option without a help text
    @dataclass
    class Config:
        units: int = 3


class DefaultFault(Good):  # has a default of the wrong type
    @dataclass
    class Config:
        units: int = expfw.option("many", help="how wide")


class MethodsFault(expfw.Model):  # has a build method without the data argument
    def build(self):
        return None


class HooksFault(expfw.Callback):  # implements an unknown hook
    @expfw.hookimpl
    def expfw_epoch_finished(self, run):
        pass


class RoundTripFault(Good):  # changes its options
    @dataclass
    class Config:
        units: int = expfw.option(3, help="how wide")

        def __post_init__(self):
            self.units *= 2


class BadOptionsFault(Good):  # does not validate its options; Keras rejects them
    @dataclass
    class Config:
        units: int = expfw.option(3, help="how wide")

    def make_layers(self, keras):
        return [keras.layers.Dense(self.config.units)]


class TrainsFault(expfw.Callback):  # raises in a hook
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        raise RuntimeError("no good")


class SeedFault(expfw.Callback):  # logs the current time
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.log({"mine": time.time()})


class ResumeFault(expfw.Callback):  # has a random generator that is not in the checkpoint
    def __init__(self, config, name):
        super().__init__(config, name)
        self.generator = np.random.default_rng(0)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.log({"mine": self.generator.normal()})


class EarlyFault(expfw.Callback):  # stops every run after one epoch
    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.request_stop("enough")


class TrialFault(Good):  # works only in the process of the test
    def build(self, data):
        if "pytest" not in sys.modules:
            raise RuntimeError("where is my table?")
        return super().build(data)


class BuildsFault(Good):  # builds nothing
    def build(self, data):
        super().build(data)


class CompileFault(expfw.Model):  # builds a model that is not compiled
    def build(self, data):
        import keras

        return keras.Sequential([keras.layers.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(3)])


class WidthFault(Good):  # ignores the number of classes
    def build(self, data):
        return super().build(expfw.DataSpec(data.input_shape, 7))


class LossFault(Good):  # does not learn
    learning_rate = 0.0


class SavedFault(Good):  # draws a random constant when it is built
    def make_layers(self, keras):
        return [keras.layers.Rescaling(float(np.random.uniform(1, 2)))]


class ReplicasFault(Good):  # normalises each part of a batch separately
    def make_layers(self, keras):
        return [keras.layers.Dense(4), keras.layers.BatchNormalization()]


class RandomFault(Good):  # draws from TensorFlow's global random state
    def make_layers(self, keras):
        import tensorflow as tf

        class Noise(keras.layers.Layer):
            def call(self, x):
                return x + 0.01 * tf.random.normal(tf.shape(x))

        return [Noise()]


class BackendLossFault(TfCpu):  # does not apply gradients
    def fit(self, config, run, model, data):
        model.optimizer.learning_rate = 0.0
        return super().fit(config, run, model, data)


class OrderFault(TfCpu):  # ignores requested hook steps
    def fit(self, config, run, model, data):
        run.next_hook_step = lambda: None
        return super().fit(config, run, model, data)


class StopFault(TfCpu):  # ignores stop requests
    def fit(self, config, run, model, data):
        run.request_stop = lambda reason: None
        return super().fit(config, run, model, data)


class DescribeFault(TfCpu):  # reports a wrong number of parameters
    def describe(self, model):
        return {"parameters": 1}


class BackendSavedFault(TfCpu):  # saves zeros
    def save(self, model, training):
        state = super().save(model, training)
        if training:
            return state
        return expfw.ModelState({name: np.zeros_like(array) for name, array in state.arrays.items()})


class BackendResumeFault(TfCpu):  # does not save the state of the optimizer
    def save(self, model, training):
        state = super().save(model, training)
        arrays = {name: a * 0 if name.startswith("optimizer") else a for name, a in state.arrays.items()}
        return expfw.ModelState(arrays, state.values, state.names)


class RejectFault(TfCpu):  # accepts any state
    def restore(self, model, state, training):
        pass


class SameAsFault(TfCpu):  # uses a different seed
    def prepare(self, config, run):
        super().prepare(config, run)
        import keras

        keras.utils.set_random_seed(config.seed + 1)


class StateFault(expfw.Callback):  # does not restore its state
    def __init__(self, config, name):
        super().__init__(config, name)
        self.epochs = 0

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.epochs += 1

    def state(self):
        return {"epochs": self.epochs}


class Numbers(expfw.Dataset):  # a dataset without faults; each dataset below has one fault
    uses_seed = False

    preprocessing = expfw.AffineScaling()

    def load(self, seed):
        split = expfw.Split(self.draw(seed), (np.arange(32) % 2).astype(np.int32))
        return expfw.Splits(expfw.DataSpec((3,), 2, preprocessing=self.preprocessing), split, split)

    def draw(self, seed):
        return np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)


class LoadFault(Numbers):  # returns numbers of 64 bits
    def draw(self, seed):
        return super().draw(seed).astype(np.float64)


class DataSeedFault(Numbers):  # draws from NumPy's global random state
    def draw(self, seed):
        return np.random.normal(size=(32, 3)).astype(np.float32)


class UsesSeedFault(Numbers):  # declares that it does not use the seed
    def draw(self, seed):
        return super().draw(seed) + np.float32(seed)


class IdentityFault(Numbers):  # has a different identity each time
    def identity(self):
        return {"now": time.monotonic_ns()}


class FrameworkFault(Numbers):  # imports another framework
    def load(self, seed):
        sys.modules.setdefault("torch", types.ModuleType("torch"))
        return super().load(seed)


class InverseFault(Numbers):  # has a preprocessing that cannot be inverted
    preprocessing = expfw.AffineScaling(np.zeros(3))


class Lines(expfw.Tracker):  # a tracker without faults, in memory; each tracker below has one fault
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


class DestinationFault(Lines):  # has a different destination each time
    def destination(self, runs_dir):
        return f"memory {time.monotonic_ns()}"


class DeliversFault(Lines):  # skips some points
    def store_point(self, state, name, step, value):
        if step != 4:
            super().store_point(state, name, step, value)


class AgainFault(Lines):  # stores duplicates
    def store_point(self, state, name, step, value):
        self.delivered_points.setdefault(state["run"], {}).setdefault((name, step), []).append(value)


class ProcessFault(Lines):  # keeps the run ID in memory, not in its state
    def ship(self, folder, state, records):
        for record in records:
            if record["kind"] == "run_started":
                self.run = record["id"]
        super().ship(folder, {"run": self.run}, records)


class SweepFault(Lines):  # supports only runs, not sweeps
    def ship(self, folder, state, records):
        if not state and records[0]["kind"] != "run_started":
            raise KeyError(records[0]["kind"])
        super().ship(folder, state, records)
