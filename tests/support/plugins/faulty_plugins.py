"""Plugins with one fault each, for the contracts to find; the name of a class is the check that finds it."""

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
    """A model without fault; those below differ in one thing."""

    def build(self, data):
        return make_network(data)


class ClassFault(expfw.Model):
    """Cannot be made."""

    def __init__(self):
        super().__init__(None, "x")


class OptionsFault(expfw.Model):
    """Tells nothing about its option."""

    @dataclass
    class Config:
        units: int = 3

    def build(self, data):
        return make_network(data)


class DefaultFault(expfw.Model):
    """Has a default of another type."""

    @dataclass
    class Config:
        units: int = expfw.option("many", help="how wide")

    def build(self, data):
        return make_network(data)


class MethodsFault(expfw.Model):
    """Takes no data."""

    def build(self):
        return None


class HooksFault(expfw.Callback):
    """Has a hook that there is not."""

    @expfw.hookimpl
    def expfw_epoch_finished(self, run):
        pass


class ComeBackFault(expfw.Model):
    """Changes its options."""

    @dataclass
    class Config:
        units: int = expfw.option(3, help="how wide")

        def __post_init__(self):
            self.units *= 2

    def build(self, data):
        return make_network(data)


class BadOptionsFault(expfw.Model):
    """Leaves it to Keras to refuse its options."""

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
    """Logs what the clock says."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.log({"mine": time.time()})


class GoesOnFault(expfw.Callback):
    """Has a random generator that nobody saves."""

    def __init__(self, config, name):
        super().__init__(config, name)
        self.generator = np.random.default_rng(0)

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.log({"mine": self.generator.normal()})


class EarlyFault(expfw.Callback):
    """Ends every run after an epoch."""

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        run.request_stop("enough")


class TrialFault(expfw.Model):
    """Needs what only the process of the test has."""

    def build(self, data):
        if "pytest" not in sys.modules:
            raise RuntimeError("where is my table?")
        return make_network(data)


class BuildsFault(expfw.Model):
    """Builds nothing."""

    def build(self, data):
        make_network(data)


class CompileFault(expfw.Model):
    """Builds a model that nobody told how to be trained."""

    def build(self, data):
        import keras

        return keras.Sequential([keras.layers.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(3)])


class WidthFault(expfw.Model):
    """Does not ask how many classes there are."""

    def build(self, data):
        return make_network(expfw.DataSpec(data.input_shape, 7))


class LossFault(expfw.Model):
    """Does not learn."""

    def build(self, data):
        import keras

        return make_network(data, optimizer=keras.optimizers.SGD(0.0))


class SavedFault(expfw.Model):
    """Draws a constant when it is built."""

    def build(self, data):
        import keras

        return make_network(data, [keras.layers.Rescaling(float(np.random.uniform(1, 2)))])


class ReplicasFault(expfw.Model):
    """Normalises each slice of a batch by itself."""

    def build(self, data):
        import keras

        return make_network(data, [keras.layers.Dense(4), keras.layers.BatchNormalization()])


class RandomFault(expfw.Model):
    """Draws from TensorFlow's own state."""

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
    """Hears nobody who asks for a step."""

    def fit(self, config, run, model, data):
        run.next_hook_step = lambda: None
        return super().fit(config, run, model, data)


class StopFault(TfCpu):
    """Does not stop."""

    def fit(self, config, run, model, data):
        run.request_stop = lambda reason: None
        return super().fit(config, run, model, data)


class TellsFault(TfCpu):
    """Counts wrong."""

    def describe(self, model):
        return {"parameters": 1}


class BackendSavedFault(TfCpu):
    """Saves zeros."""

    def save(self, model, training):
        state = super().save(model, training)
        if training:
            return state
        return expfw.ModelState({name: np.zeros_like(array) for name, array in state.arrays.items()})


class BackendGoesOnFault(TfCpu):
    """Forgets the optimizer."""

    def save(self, model, training):
        state = super().save(model, training)
        arrays = {name: a * 0 if name.startswith("optimizer") else a for name, a in state.arrays.items()}
        return expfw.ModelState(arrays, state.values, state.names)


class RefusesFault(TfCpu):
    """Takes whatever it is given."""

    def restore(self, model, state, training):
        pass


class SameAsFault(TfCpu):
    """Has a seed of its own."""

    def prepare(self, config, run):
        super().prepare(config, run)
        import keras

        keras.utils.set_random_seed(config.seed + 1)


class StateFault(expfw.Callback):
    """Takes nothing back."""

    def __init__(self, config, name):
        super().__init__(config, name)
        self.epochs = 0

    @expfw.hookimpl
    def expfw_epoch_ended(self, run):
        self.epochs += 1

    def state(self):
        return {"epochs": self.epochs}


class Numbers(expfw.Dataset):
    """Data without fault; those below differ in one thing."""

    uses_seed = False

    def load(self, seed):
        x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
        split = expfw.Split(x, (np.arange(32) % 2).astype(np.int32))
        return expfw.Splits(expfw.DataSpec((3,), 2), split, split)


class LoadFault(Numbers):
    """Has numbers of 64 bits."""

    def load(self, seed):
        data = super().load(seed)
        split = expfw.Split(data.train.x.astype(np.float64), data.train.y)
        return expfw.Splits(data.spec, split)


class DataSeedFault(Numbers):
    """Draws from NumPy's global state."""

    def load(self, seed):
        data = super().load(seed)
        split = expfw.Split(np.random.normal(size=(32, 3)).astype(np.float32), data.train.y)
        return expfw.Splits(data.spec, split)


class UsesSeedFault(Numbers):
    """Says that the seed does not matter."""

    def load(self, seed):
        data = super().load(seed)
        return expfw.Splits(data.spec, expfw.Split(data.train.x + np.float32(seed), data.train.y))


class IdentityFault(Numbers):
    """Is never the same."""

    def identity(self):
        return {"now": time.monotonic_ns()}


class FrameworkFault(Numbers):
    """Brings a framework with it."""

    def load(self, seed):
        sys.modules.setdefault("torch", types.ModuleType("torch"))
        return super().load(seed)


class InverseFault(Numbers):
    """Does not tell how it preprocessed."""

    def load(self, seed):
        data = super().load(seed)
        spec = expfw.DataSpec((3,), 2, preprocessing=expfw.AffineScaling(np.zeros(3)))
        return expfw.Splits(spec, data.train, data.validation)


class Lines(expfw.Tracker):
    """A tracker without fault, for the length of a process; those below differ in one thing."""

    delivered_points: dict = {}  # noqa: RUF012  # what would be a server

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
    """Writes somewhere else each time."""

    def destination(self, runs_dir):
        return f"memory {time.monotonic_ns()}"


class DeliversFault(Lines):
    """Leaves some points out."""

    def store_point(self, state, name, step, value):
        if step != 4:
            super().store_point(state, name, step, value)


class AgainFault(Lines):
    """Keeps everything twice."""

    def store_point(self, state, name, step, value):
        self.delivered_points.setdefault(state["run"], {}).setdefault((name, step), []).append(value)


class ProcessFault(Lines):
    """Knows the run only as long as it lives."""

    def ship(self, folder, state, records):
        for record in records:
            if record["kind"] == "run_started":
                self.run = record["id"]
        super().ship(folder, {"run": self.run}, records)


class SweepFault(Lines):
    """Expects nothing but runs."""

    def ship(self, folder, state, records):
        if not state and records[0]["kind"] != "run_started":
            raise KeyError(records[0]["kind"])
        super().ship(folder, state, records)
