"""Runs one contender of `performance.py` and prints the seconds of each epoch.

    python benchmarks/engine/contenders.py NAME MNIST_FOLDER

The contenders keras_* need only Keras and TensorFlow; the contenders engine_* also need expfw.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import networks

EPOCHS, BATCH, CNN_BATCH, CNN_STEPS = 6, 64, 50, 200


def train_keras_mlp(data: dict[str, np.ndarray], metrics: tuple[str, ...] = ()) -> None:
    began = time.perf_counter()
    model = networks.build_mlp(metrics)
    for _ in range(EPOCHS):
        model.fit(data["x"], data["y"], batch_size=BATCH, verbose=0)
        began = print_epoch_seconds(began)


def train_keras_with_callbacks(data: dict[str, np.ndarray]) -> None:
    """Trains with accuracy, validation and three common callbacks."""
    with tempfile.TemporaryDirectory() as folder:
        model = networks.build_mlp(("accuracy",))
        callbacks = [
            keras.callbacks.EarlyStopping(patience=100),
            keras.callbacks.ModelCheckpoint(f"{folder}/best.keras", save_best_only=True),
            keras.callbacks.TensorBoard(f"{folder}/tensorboard"),
            Clock(),
        ]
        held_out = (data["x_validation"], data["y_validation"])
        model.fit(data["x"], data["y"], BATCH, EPOCHS, validation_data=held_out, callbacks=callbacks, verbose=0)


class Clock(keras.callbacks.Callback):
    """Prints the seconds of each epoch."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.started_at = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.started_at = print_epoch_seconds(self.started_at)


def train_keras_cnn(data: dict[str, np.ndarray]) -> None:
    model = networks.build_cnn()
    x, y = data["x"][: CNN_BATCH * CNN_STEPS], data["y"][: CNN_BATCH * CNN_STEPS]
    began = time.perf_counter()
    for _ in range(EPOCHS):
        model.fit(x, y, batch_size=CNN_BATCH, verbose=0)
        began = print_epoch_seconds(began)


def train_engine_mlp(data: dict[str, np.ndarray], metrics: tuple[str, ...] = ()) -> None:
    import expfw

    split = expfw.Split(data["x"], data["y"])
    began = time.perf_counter()
    trainable = make_trainable(networks.build_mlp(metrics), split, BATCH)
    for epoch in range(EPOCHS):
        run_engine_epoch(trainable, epoch)
        began = print_epoch_seconds(began)


def execute_engine_run(data: dict[str, np.ndarray]) -> None:
    """Trains the same network in a complete run: journal, checkpoints, early stopping, TensorBoard files."""
    import expfw
    from expfw.config.compose import compose
    from expfw.plugins.catalogue import get_catalogue
    from expfw.runs.one_run import execute
    from expfw.runs.request import prepare_run

    logging.disable()
    plugin = Path(__file__).with_name("mnist_mlp.py")
    clock = EngineClock(expfw)
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=benchmark_mlp", "dataset=benchmark_mnist", f"dataset.folder={sys.argv[2]}", "tracker=[]"]
        overrides += ["callback=[early_stopping,checkpoint,tensorboard]", "callback.early_stopping.patience=100"]
        overrides += [f"train.epochs={EPOCHS}", f"train.batch_size={BATCH}", f"runs_dir={folder}"]
        catalogue = get_catalogue((str(plugin),))
        execute(prepare_run(compose(overrides, catalogue), catalogue), [clock.plugin])


class EngineClock:
    """Prints the seconds of each epoch."""

    def __init__(self, expfw: Any) -> None:
        class Clock(expfw.Callback):  # type: ignore[misc]
            @expfw.hookimpl
            def expfw_run_started(self) -> None:
                self.started_at = time.perf_counter()

            @expfw.hookimpl
            def expfw_epoch_ended(self) -> None:
                self.started_at = print_epoch_seconds(self.started_at)

        self.plugin = Clock(None, "clock")


def train_engine_cnn(data: dict[str, np.ndarray], precision_name: str = "float32") -> None:
    import expfw
    from expfw_backends.tensorflow_backend import use_precision

    split = expfw.Split(data["x"][: CNN_BATCH * CNN_STEPS], data["y"][: CNN_BATCH * CNN_STEPS])
    began = time.perf_counter()
    with use_precision(precision_name):
        model = networks.build_cnn()
    trainable = make_trainable(model, split, CNN_BATCH)
    for epoch in range(EPOCHS):
        run_engine_epoch(trainable, epoch)
        began = print_epoch_seconds(began)


def print_accuracy(data: dict[str, np.ndarray], precision_name: str) -> None:
    """Prints the validation accuracy of the CNN after 1,000 steps, for three seeds."""
    import expfw
    from expfw_backends.tensorflow_backend import use_precision

    for seed in range(3):
        with use_precision(precision_name):
            model = networks.build_cnn(seed)
        trainable = make_trainable(model, expfw.Split(data["x"], data["y"]), CNN_BATCH)
        run_engine_epoch(trainable, seed, steps=1000)
        model.compile(metrics=["accuracy"], loss="sparse_categorical_crossentropy")
        _, validation_accuracy = model.evaluate(data["x_validation"], data["y_validation"], 500, verbose=0)
        print(f"accuracy {validation_accuracy:.4f}", flush=True)


def make_trainable(model: keras.Model, split: Any, batch_size: int) -> Any:
    import tensorflow as tf

    import expfw
    from expfw.api.run_config import Train
    from expfw_backends.engine.trainable import TrainableModel

    strategy = tf.distribute.get_strategy()
    data = expfw.Splits(expfw.DataSpec(split.x.shape[1:], 10), split)
    return TrainableModel(strategy, model, data, Train(batch_size=batch_size))


def run_engine_epoch(trainable: Any, epoch: int, steps: int | None = None) -> None:
    from expfw_backends.engine.batches import make_permutation

    split, batch_size = trainable.data.train, trainable.config.batch_size
    order = make_permutation(0, epoch, len(split))
    trainable.train_loop.run(split, order, 0, steps or -(-len(split) // batch_size))


def print_epoch_seconds(started_at: float) -> float:
    """Prints the seconds since `started_at`; returns the current time."""
    print(f"epoch {time.perf_counter() - started_at:.4f} s", flush=True)
    return time.perf_counter()


CONTENDERS = {
    "keras_loss": train_keras_mlp,
    "keras_accuracy": lambda data: train_keras_mlp(data, ("accuracy",)),
    "keras_everything": train_keras_with_callbacks,
    "keras_cnn": train_keras_cnn,
    "engine_loss": train_engine_mlp,
    "engine_accuracy": lambda data: train_engine_mlp(data, ("accuracy",)),
    "engine_everything": execute_engine_run,
    "engine_cnn": train_engine_cnn,
    "engine_cnn_bfloat16": lambda data: train_engine_cnn(data, "mixed_bfloat16"),
    "accuracy_float32": lambda data: print_accuracy(data, "float32"),
    "accuracy_bfloat16": lambda data: print_accuracy(data, "mixed_bfloat16"),
}

if __name__ == "__main__":
    name = sys.argv[1]
    CONTENDERS[name](networks.load_mnist(Path(sys.argv[2]), images="cnn" in name or "accuracy_" in name))
