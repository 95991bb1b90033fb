"""One contender of `performance.py` in a process of its own: prints the seconds of each epoch.

    python benchmarks/engine/contenders.py NAME MNIST_FOLDER

Those called keras_* need Keras and TensorFlow only, those called engine_* need expfw.
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
import networks
import numpy as np

EPOCHS, BATCH, CNN_BATCH, CNN_STEPS = 6, 64, 50, 200


def keras_mlp(data: dict[str, np.ndarray], metrics: tuple[str, ...] = ()) -> None:
    began = time.perf_counter()
    model = networks.mlp(metrics)
    for _ in range(EPOCHS):
        model.fit(data["x"], data["y"], batch_size=BATCH, verbose=0)
        began = said(began)


def keras_everything(data: dict[str, np.ndarray]) -> None:
    """Accuracy, validation, and the three callbacks that people use."""
    with tempfile.TemporaryDirectory() as folder:
        model = networks.mlp(("accuracy",))
        callbacks = [
            keras.callbacks.EarlyStopping(patience=100),
            keras.callbacks.ModelCheckpoint(f"{folder}/best.keras", save_best_only=True),
            keras.callbacks.TensorBoard(f"{folder}/tensorboard"),
            Clock(),
        ]
        held_out = (data["x_validation"], data["y_validation"])
        model.fit(data["x"], data["y"], BATCH, EPOCHS, validation_data=held_out, callbacks=callbacks, verbose=0)


class Clock(keras.callbacks.Callback):
    """Says how long each epoch took."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.began = said(self.began)


def keras_cnn(data: dict[str, np.ndarray]) -> None:
    model = networks.cnn()
    x, y = data["x"][: CNN_BATCH * CNN_STEPS], data["y"][: CNN_BATCH * CNN_STEPS]
    began = time.perf_counter()
    for _ in range(EPOCHS):
        model.fit(x, y, batch_size=CNN_BATCH, verbose=0)
        began = said(began)


def engine_mlp(data: dict[str, np.ndarray], metrics: tuple[str, ...] = ()) -> None:
    import expfw

    split = expfw.Split(data["x"], data["y"])
    began = time.perf_counter()
    loop = engine_loop(networks.mlp(metrics), split, BATCH)
    for epoch in range(EPOCHS):
        engine_epoch(loop, epoch)
        began = said(began)


def engine_everything(data: dict[str, np.ndarray]) -> None:
    """The same through a whole run: journal, checkpoints, early stopping, TensorBoard files."""
    import expfw
    from expfw.config.compose import compose
    from expfw.runs.one_run import execute
    from expfw.runs.request import request

    logging.disable()
    plugin = Path(__file__).with_name("mnist_mlp.py")
    clock = EngineClock(expfw)
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=benchmark_mlp", "dataset=benchmark_mnist", f"dataset.folder={sys.argv[2]}", "tracker=[]"]
        overrides += ["callback=[early_stopping,checkpoint,tensorboard]", "callback.early_stopping.patience=100"]
        overrides += [f"train.epochs={EPOCHS}", f"train.batch_size={BATCH}", f"runs_dir={folder}"]
        config = compose(overrides, (str(plugin),))
        execute(request(config, (str(plugin),)), [clock.plugin])


class EngineClock:
    """Says how long each epoch took."""

    def __init__(self, expfw: Any) -> None:
        class Clock(expfw.Callback):  # type: ignore[misc]
            @expfw.hookimpl
            def expfw_run_started(self) -> None:
                self.began = time.perf_counter()

            @expfw.hookimpl
            def expfw_epoch_ended(self) -> None:
                self.began = said(self.began)

        self.plugin = Clock(None, "clock")


def engine_cnn(data: dict[str, np.ndarray], bits: str = "float32") -> None:
    import expfw
    from expfw_backends.devices.precision import precision

    split = expfw.Split(data["x"][: CNN_BATCH * CNN_STEPS], data["y"][: CNN_BATCH * CNN_STEPS])
    began = time.perf_counter()
    with precision(bits):
        model = networks.cnn()
    loop = engine_loop(model, split, CNN_BATCH)
    for epoch in range(EPOCHS):
        engine_epoch(loop, epoch)
        began = said(began)


def accuracy(data: dict[str, np.ndarray], bits: str) -> None:
    """Validation accuracy of the CNN after 1,000 steps, for three seeds."""
    import expfw
    from expfw_backends.devices.precision import precision

    for seed in range(3):
        with precision(bits):
            model = networks.cnn(seed)
        loop = engine_loop(model, expfw.Split(data["x"], data["y"]), CNN_BATCH)
        engine_epoch(loop, seed, steps=1000)
        model.compile(metrics=["accuracy"], loss="sparse_categorical_crossentropy")
        _, share = model.evaluate(data["x_validation"], data["y_validation"], 500, verbose=0)
        print(f"accuracy {share:.4f}", flush=True)


def engine_loop(model: keras.Model, split: Any, batch_size: int) -> Any:
    import tensorflow as tf

    import expfw
    from expfw.api.settings import Train
    from expfw_backends.engine.loop import Loop
    from expfw_backends.engine.trainable import Trainable

    strategy = tf.distribute.get_strategy()
    data = expfw.Splits(expfw.DataSpec(split.x.shape[1:], 10), split)
    return Loop(strategy, Trainable(strategy, model, data, Train()).train, split, batch_size)


def engine_epoch(loop: Any, epoch: int, steps: int | None = None) -> None:
    from expfw_backends.engine.engine import permutation

    loop.run(permutation(0, epoch, loop.samples), 0, steps or loop.steps_per_epoch)


def said(began: float) -> float:
    """Prints the seconds since then; returns the present."""
    print(f"epoch {time.perf_counter() - began:.4f} s", flush=True)
    return time.perf_counter()


CONTENDERS = {
    "keras_loss": keras_mlp,
    "keras_accuracy": lambda data: keras_mlp(data, ("accuracy",)),
    "keras_everything": keras_everything,
    "keras_cnn": keras_cnn,
    "engine_loss": engine_mlp,
    "engine_accuracy": lambda data: engine_mlp(data, ("accuracy",)),
    "engine_everything": engine_everything,
    "engine_cnn": engine_cnn,
    "engine_cnn_bfloat16": lambda data: engine_cnn(data, "mixed_bfloat16"),
    "accuracy_float32": lambda data: accuracy(data, "float32"),
    "accuracy_bfloat16": lambda data: accuracy(data, "mixed_bfloat16"),
}

if __name__ == "__main__":
    name = sys.argv[1]
    CONTENDERS[name](networks.mnist(Path(sys.argv[2]), images="cnn" in name or "accuracy_" in name))
