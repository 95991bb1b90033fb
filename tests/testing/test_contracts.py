"""The built-in plugins pass the public contracts."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from conftest import ROOT
from support.small_datasets import write_cifar, write_mnist

import expfw
from expfw.plugins.catalogue import get_catalogue
from expfw.testing import BackendContract, CallbackContract, DatasetContract, ModelContract, TrackerContract
from expfw_backends.mirrored import Mirrored
from expfw_backends.multi_worker import MultiWorker
from expfw_backends.parameter_server import ParameterServer
from expfw_backends.tf_cpu import TfCpu
from expfw_backends.tf_gpu import TfGpu
from expfw_callbacks.activation_plot import ActivationPlot
from expfw_callbacks.augmentation import Augmentation
from expfw_callbacks.checkpoint import Checkpoint
from expfw_callbacks.classification_report import ClassificationReport
from expfw_callbacks.early_stopping import EarlyStopping
from expfw_callbacks.gradients import Gradients
from expfw_callbacks.pictures import Pictures
from expfw_callbacks.system_metrics import SystemMetrics
from expfw_callbacks.tensorboard import TensorBoard
from expfw_callbacks.transfer import Transfer
from expfw_datasets.cifar10 import Cifar10
from expfw_datasets.curve import Curve
from expfw_datasets.digits import Digits
from expfw_datasets.line import Line
from expfw_datasets.mnist import Mnist
from expfw_datasets.noise import Noise
from expfw_datasets.npz import Npz
from expfw_mlflow.tracker import MLflow
from expfw_models.alexnet import AlexNet
from expfw_models.cnn import Cnn
from expfw_models.mlp_keras import MlpKeras
from expfw_models.mlp_layers import MlpLayers
from expfw_models.ols import Ols
from expfw_models.perceptron import Perceptron

pytestmark = pytest.mark.usefixtures("processors")


class TestOls(ModelContract):
    plugin = Ols
    data = expfw.DataSpec((2,), output_shape=(1,))


@pytest.mark.slow
class TestPerceptron(ModelContract):
    plugin = Perceptron


@pytest.mark.slow
class TestMlpLayers(ModelContract):
    plugin = MlpLayers


class TestMlpKeras(ModelContract):
    plugin = MlpKeras
    options = {"dropout": 0.2}
    without_noise = {"dropout": 0.0}


@pytest.mark.slow
class TestCnn(ModelContract):
    plugin = Cnn
    options = {"filters": (4,), "dense": (8,), "kernel": 3, "optimizer.learning_rate": 0.01}
    without_noise = {"dropout": 0.0}


@pytest.mark.slow
class TestAlexNet(ModelContract):
    plugin = AlexNet
    data = expfw.DataSpec((28, 28, 1), 3)
    options = {"filters": (2, 4, 4, 4, 2), "kernels": (5, 3, 3, 3, 3), "dense": (8,), "stride": 1}
    without_noise = {"dropout": 0.0}


class TestTfCpu(BackendContract):
    plugin = TfCpu


class TestTfGpu(BackendContract):
    plugin = TfGpu


@pytest.mark.slow
class TestMirrored(BackendContract):
    plugin = Mirrored
    options = {"cpus": 2}


@pytest.mark.slow
class TestMultiWorker(BackendContract):
    plugin = MultiWorker


@pytest.mark.slow
class TestParameterServer(BackendContract):
    plugin = ParameterServer


class TestCheckpoint(CallbackContract):
    plugin = Checkpoint


class TestEarlyStopping(CallbackContract):
    plugin = EarlyStopping
    options = {"patience": 2, "min_delta": 0.5}


@pytest.mark.slow
class TestTensorBoard(CallbackContract):
    plugin = TensorBoard


@pytest.mark.slow
class TestPictures(CallbackContract):
    plugin = Pictures


@pytest.mark.slow
class TestClassificationReport(CallbackContract):
    plugin = ClassificationReport


@pytest.mark.slow
class TestGradients(CallbackContract):
    plugin = Gradients


class TestSystemMetrics(CallbackContract):
    plugin = SystemMetrics


@pytest.mark.slow
class TestActivationPlot(CallbackContract):
    plugin = ActivationPlot


@pytest.mark.slow
class TestAugmentation(CallbackContract):
    plugin = Augmentation


@pytest.mark.slow
class TestTransfer(CallbackContract):
    plugin = Transfer
    options = {"layers": 1}

    def make_options(self, folder):
        from expfw.config.compose import compose
        from expfw.runs.one_run import execute
        from expfw.runs.request import prepare_run
        from expfw.testing.bench import SMALL_DATA_FILE

        overrides = ["dataset=small_data", "train.epochs=1", "tracker=[]", "callback=[]", f"runs_dir={folder}"]
        trained = execute(
            prepare_run(compose(overrides, get_catalogue((SMALL_DATA_FILE,))), get_catalogue((SMALL_DATA_FILE,)))
        )
        return {**self.options, "model": str(trained.folder)}


class TestLine(DatasetContract):
    plugin = Line


@pytest.mark.slow
class TestCurve(DatasetContract):
    plugin = Curve


@pytest.mark.slow
class TestNoise(DatasetContract):
    plugin = Noise
    options = {"shape": (4, 4, 1), "classes": 3}


class TestDigits(DatasetContract):
    plugin = Digits


@pytest.mark.slow
class TestMnist(DatasetContract):
    plugin = Mnist

    def make_options(self, folder):
        return {"path": str(write_mnist(folder))}


@pytest.mark.slow
class TestCifar10(DatasetContract):
    plugin = Cifar10

    def make_options(self, folder):
        return {"path": str(write_cifar(folder))}


class TestNpz(DatasetContract):
    plugin = Npz

    def make_options(self, folder):
        generator = np.random.default_rng(0)
        x, y = generator.normal(size=(40, 3)).astype(np.float32), generator.integers(0, 2, 40)
        np.savez(folder / "arrays.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        return {"path": str(folder / "arrays.npz")}


class TestMLflow(TrackerContract):
    plugin = MLflow

    def read_points(self, tracker, runs_dir, state):
        names = tracker.client.get_run(state["run_id"]).data.metrics
        points = ((name, tracker.client.get_metric_history(state["run_id"], name)) for name in names)
        return [(name, point.step, point.value) for name, history in points for point in history]


@pytest.mark.slow
class TestCsv(TrackerContract):
    """The example in docs/authors/examples, a plain file."""

    plugin = (
        get_catalogue((str(ROOT / "docs" / "authors" / "examples" / "csv_tracker.py"),)).get("tracker", "csv").loaded
    )

    def read_points(self, tracker, runs_dir, state):
        rows = csv.reader((tracker.folder / f"{state['run']}.csv").read_text().splitlines()[1:])
        return [(name, int(step), float(value)) for step, name, value in rows]
