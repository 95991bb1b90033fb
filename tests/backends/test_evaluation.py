"""Classification reports, system metrics and data digests of a run."""

from __future__ import annotations

import csv
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

import expfw
from expfw.api.data import Split
from expfw.api.preprocessing import AffineScaling
from expfw.tracking import journal
from expfw.tracking.run_record import compute_digest
from expfw_callbacks.classification_report import make_report_rows
from expfw_callbacks.system_metrics import GpuUsage, list_visible_gpus


def records(folder, kind):
    return [record for record in journal.read_records(folder / journal.NAME)[0] if record["kind"] == kind]


def test_the_tables_describe_the_trained_model(train):
    result = train("dataset=digits", "train.epochs=5", "callback=[classification_report]")
    folder = result.folder / "evaluation"
    matrix = list(csv.reader((folder / "test_confusion_matrix.csv").read_text().splitlines()))
    counts = np.array([[int(cell) for cell in row[1:]] for row in matrix[1:]])
    assert counts.sum() == 359
    assert np.trace(counts) / 359 == pytest.approx(result.metrics["test/accuracy"])
    rows = list(csv.reader((folder / "test_classification_report.csv").read_text().splitlines()))
    assert rows[0] == ["class", "precision", "recall", "f1", "samples"]
    assert [row[0] for row in rows[1:]] == [*map(str, range(10)), "mean of classes", "mean of samples"]
    assert float(rows[-1][2]) == pytest.approx(result.metrics["test/accuracy"], abs=1e-4)
    assert "evaluation" in [record["path"] for record in records(result.folder, "artifact")]


def test_the_report_equals_scikit_learn():
    truth, predicted = np.random.default_rng(0).integers(0, 4, (2, 200))
    predicted[truth == 3] = 0  # class 3 is never predicted
    counts = np.zeros((5, 5), int)  # class 4 has no samples
    np.add.at(counts, (truth, predicted), 1)
    rows = make_report_rows(counts, "abcde")
    expected = np.array(precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=0))
    np.testing.assert_allclose(np.array([row[1:] for row in rows[:5]], float), expected.T, atol=1e-4)
    for row, average in zip(rows[5:], ("macro", "weighted"), strict=True):
        means = precision_recall_fscore_support(truth, predicted, labels=range(5), average=average, zero_division=0)
        np.testing.assert_allclose(row[1:4], means[:3], atol=1e-4)


def test_no_tables_without_classes_or_after_a_failure(train):
    class Fails(expfw.Callback):
        @expfw.hookimpl(wrapper=True)
        def expfw_fit(self):
            yield
            raise RuntimeError("after the training")

    folder = train("dataset=line", "model=ols", "callback=[classification_report]").folder
    assert not (folder / "evaluation").exists()
    options = ("dataset=digits", "train.epochs=1", "train.clip_norm=1", "callback=[classification_report]")
    with pytest.raises(RuntimeError):
        train(*options, observers=[Fails(None, "fails")])
    assert not list(Path("runs").glob("2*/*/evaluation"))


def test_system_metrics_are_sampled_at_intervals_and_at_the_end(train):
    options = ("dataset=digits", "callback=[system_metrics]", "callback.system_metrics.seconds=0.05")
    result = train(*options, "train.epochs=60")
    samples = records(result.folder, "system")
    assert len(samples) >= 2
    assert samples[-1]["step"] == result.steps
    for sample in samples:
        assert sample["values"]["process_memory_usage_megabytes"] > 50
        assert 0 <= sample["values"]["system_memory_usage_percentage"] <= 100
    assert not any(name.startswith("system") for name in result.metrics)
    gaps = np.diff([sample["time"] for sample in samples[:-1]])
    assert (gaps >= 0.05).all()
    short = train("dataset=digits", "train.epochs=1", "callback=[system_metrics]")
    assert len(records(short.folder, "system")) == 1


def test_available_gpus_are_measured(monkeypatch):
    """With a fake `pynvml` of two GPUs; the second GPU fails in the second sample."""

    class NVMLError(Exception):
        """The error class of the driver."""

    def get_rates(handle):
        reads.append(handle)
        if handle == 1 and len(reads) > 2:
            raise NVMLError("the GPU is lost")
        return types.SimpleNamespace(gpu=40 + handle)

    reads, calls = [], []
    driver = types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: calls.append("init"),
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=get_rates,
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=2**30, total=4 * 2**30),
        nvmlDeviceGetPowerUsage=lambda handle: 70_500,
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr("os.path.exists", lambda path: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus = GpuUsage()
    values = {"memory_usage_megabytes": 1024.0, "memory_usage_percentage": 25.0, "power_usage_watts": 70.5}
    assert gpus.sample() == {
        f"gpu_{number}_{name}": value
        for number in (0, 1)
        for name, value in {"utilization_percentage": 40.0 + number, **values}.items()
    }
    assert "gpu_0_utilization_percentage" in gpus.sample()  # the second GPU fails here
    assert gpus.sample() == {}
    gpus.close()
    assert calls == ["init", "shutdown"]


def test_hidden_gpus_are_not_measured(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list_visible_gpus(3) == [0, 1, 2]
    visible = {"2,0": [2, 0], "": [], "-1": [], "7": [], "GPU-ab": [0, 1, 2]}
    for variable, numbers in visible.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
        assert list_visible_gpus(3) == numbers


def test_a_digest_distinguishes_different_data():
    x, y = np.arange(40_000, dtype=np.float32).reshape(-1, 4), np.zeros(10_000, np.int32)
    digest = compute_digest(Split(x, y))
    assert compute_digest(Split(x.copy(), y.copy())) == digest
    assert len(digest) == 16
    for other in (Split(x[:-1], y[:-1]), Split(x + 1, y), Split(x, y + 1), Split(x[::-1], y), Split(x, y, x[:, 0])):
        assert compute_digest(other) != digest
    large = np.lib.stride_tricks.as_strided(x, (10_000, 2_000_000), (0, 0))  # 80 GB that exist only as a view
    assert len(compute_digest(Split(large, y))) == 16


def test_preprocessing_has_an_inverse():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 5)).astype(np.float32)
    for preprocessing in (
        AffineScaling(1 / 255),
        AffineScaling(2.0, np.full((5, 5), -3.0)),
        AffineScaling(np.eye(5) + 1, 0.5),
    ):
        np.testing.assert_allclose(preprocessing.inverse(preprocessing(pixels)), pixels, rtol=1e-5, atol=1e-4)
    assert (AffineScaling(0.0, 7.0).inverse(np.full((1, 2), 7.0)) == 0).all()
