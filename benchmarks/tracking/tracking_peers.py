"""Trains once with Keras and MLflow, without expfw, and prints the seconds.

    python benchmarks/tracking/tracking_peers.py NAME MNIST_FOLDER

Needs Keras, TensorFlow and MLflow, but not expfw. Trains the network of `networks.build_mlp` with accuracy; MLflow
writes to SQLite in a temporary folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import mlflow

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import networks

EPOCHS, BATCH = 5, 64


def train(name: str, data: dict[str, networks.np.ndarray]) -> float:
    """Returns the seconds of `fit`, including the work of MLflow."""
    model = networks.build_mlp(("accuracy",))
    model.fit(data["x"][:640], data["y"][:640], batch_size=BATCH, verbose=0)  # traces before the clock starts
    callbacks = []
    if name == "autolog_epoch":
        mlflow.tensorflow.autolog()
    elif name == "callback_step":
        callbacks = [mlflow.keras.MlflowCallback(log_every_epoch=False, log_every_n_steps=1)]
    began = time.perf_counter()
    if name == "keras":
        model.fit(data["x"], data["y"], batch_size=BATCH, epochs=EPOCHS, verbose=0)
    else:
        with mlflow.start_run():
            model.fit(data["x"], data["y"], batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks)
    return time.perf_counter() - began


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.create_experiment("peer", artifact_location=Path(folder).as_uri())
        mlflow.set_experiment("peer")
        print(f"training {train(sys.argv[1], networks.load_mnist(Path(sys.argv[2]))):.3f} s")
