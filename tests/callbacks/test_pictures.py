"""Plots of runs and sweeps."""

from __future__ import annotations

import numpy as np
import pytest

import expfw
from expfw.tracking.recorded_run import read_run
from expfw_callbacks.pictures import Pictures
from expfw_callbacks.plots import drawings
from expfw_callbacks.plots.samples import make_weight_images

DIGITS = ("dataset=digits", "train.epochs=2", "callback=[pictures]")


def drawn(folder):
    return {path.stem for path in (folder / "pictures").glob("*.png")}


def artifacts(folder):
    return [record["path"] for record in read_run(folder).select("artifact")]


@pytest.mark.parametrize(
    ("options", "pictures", "artifact"),
    [
        ((*DIGITS, "model=mlp_layers"), {"learning_curves", "confusion_matrix", "weights"}, "pictures"),
        (("dataset=line", "model=ols", "train.epochs=3", "callback=[pictures]"), {"learning_curves", "fitted_line"},
         "pictures"),
        ((*DIGITS, "callback=[activation_plot]", "model.activation=relu"), {"activations"}, "pictures/activations.png"),
    ],
)  # fmt: skip
def test_plots_of_a_run(train, options, pictures, artifact):
    result = train(*options)
    assert drawn(result.folder) == pictures
    assert artifact in artifacts(result.folder)


@pytest.mark.slow
def test_a_sweep_has_metrics_against_swept_parameters(expfw_process, workdir):
    done = expfw_process(
        "sweep", "dataset=line", "model=ols", "model.optimizer.learning_rate=0.001,0.01", "model.degree=1,2",
        "train.epochs=3", "callback=[pictures]", "tracker=[]", "objective.metric=train/epoch_loss",
    )  # fmt: skip
    (folder,) = workdir.glob("runs/*/*/pictures")
    assert drawn(folder.parent) == {"against_model.optimizer.learning_rate", "against_model.degree"}, done.err
    assert artifacts(folder.parent) == ["pictures", "report.html"]


def test_a_failed_run_has_learning_curves(train, workdir):
    with pytest.raises(Exception, match="the loss is"):
        train("dataset=line", "model=ols", "train.epochs=300", "callback=[pictures]", "model.optimizer.learning_rate=9")
    (folder,) = workdir.glob("runs/*/*/pictures")
    assert drawn(folder.parent) == {"learning_curves"}


def test_a_plot_that_fails_does_not_fail_the_run(train, monkeypatch):
    monkeypatch.setattr(drawings, "draw_learning_curves", lambda points: 1 / 0)
    result = train(*DIGITS, "model=mlp_layers")
    assert result.status == "FINISHED"


def test_the_confusion_matrix_counts_rows_as_true_classes():
    counts = np.array([[3, 1], [0, 4]])
    figure = drawings.draw_confusion_matrix(counts, ["no", "yes"], "8 samples")
    (axes,) = figure.axes
    assert [(t.get_position(), t.get_text()) for t in axes.texts] == [((0, 0), "3"), ((1, 0), "1"), ((1, 1), "4")]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_learning_curves_show_training_and_validation_in_one_chart():
    last = {"train/loss": 0.1, "train/epoch_loss": 1.0, "val/loss": 0.2, "val/accuracy": 0.9}
    points = [expfw.Point(0, {"train/loss": 5.0, "gradient/kernel_0": 1.0}), expfw.Point(10, last)]
    loss, accuracy = drawings.draw_learning_curves(points).axes
    assert [line.get_label() for line in loss.lines] == ["train/epoch_loss", "train/loss", "val/loss"]
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    assert [len(line.get_xdata()) for line in loss.lines] == [1, 2, 1]
    assert drawings.draw_learning_curves([]) is None


def test_metrics_against_texts_and_numbers():
    curves = {"val/loss": [1.0, 2.0, 4.0], "train/loss": [0.5, 0.5, 0.5]}
    words = drawings.draw_metrics_against("model.activation", ["tanh", "relu", "tanh"], curves, "loss").axes[0]
    assert [label.get_text() for label in words.get_xticklabels()] == ["tanh", "relu"]
    assert list(words.lines[1].get_ydata()) == [2.5, 2.0]  # the mean of the trials with each value
    curves["val/loss"] = [1.0, float("nan"), 4.0]  # not measured in this trial
    rates = drawings.draw_metrics_against("rate", ["0.001", "0.01", "0.1"], curves, "loss").axes[0]
    assert list(rates.lines[1].get_xdata()) == [0.001, 0.1]
    degrees = drawings.draw_metrics_against("degree", ["1", "2", "12"], curves, "loss").axes[0]
    assert (rates.get_xscale(), degrees.get_xscale()) == ("log", "linear")


@pytest.mark.parametrize(
    ("shape", "variable", "expected"),
    [
        ((4, 3, 1), (12, 10), (10, 4, 3, 1)),
        ((4, 3, 3), (36, 10), (10, 4, 3, 3)),
        ((28, 28, 1), (5, 5, 1, 32), (32, 5, 5, 1)),
        ((32, 32, 3), (3, 3, 3, 100), (64, 3, 3, 3)),
        ((12,), (12, 10), None),
        ((4, 3, 2), (24, 10), None),
        ((4, 3, 1), (13, 10), None),
    ],
)
def test_weights_become_images_if_their_inputs_are_pixels(shape, variable, expected):
    value = np.arange(np.prod(variable), dtype=np.float32).reshape(variable)
    images = make_weight_images({"bias": np.zeros(5), "kernel": value}, shape)
    assert (images is None) if expected is None else images.shape == expected
    if len(variable) == 2 and images is not None:
        np.testing.assert_allclose(images[1].reshape(-1), value[:, 1] / (2 * value.max()) + 0.5)


@pytest.mark.slow
def test_mlflow_has_the_plots_as_artifacts(expfw_process, workdir):
    done = expfw_process("run", "dataset=line", "model=ols", "train.epochs=2", "callback=[pictures]")
    assert done.code == 0, done.err
    assert len(list(workdir.glob("runs/mlartifacts/**/learning_curves.png"))) == 1


def test_a_failed_trial_does_not_change_the_plots_of_the_sweep(tmp_path, monkeypatch):
    plugin, added, calls = Pictures(Pictures.Config(), "pictures"), [], []
    monkeypatch.setattr(drawings, "draw_metrics_against", lambda *arguments: calls.append(arguments))
    for number, status, metrics in (
        (2, "FINISHED", {"val/loss": 2.0, "train/epoch_loss": 0.5}),
        (1, "FAILED", {"train/epoch_loss": 9.0}),
        (0, "FINISHED", {"val/loss": 1.0}),
    ):
        trial = {"number": number, "status": status, "metrics": metrics, "objective_metric": "val/loss"}
        plugin.expfw_trial_ended({**trial, "swept": [f"model.degree={number}"]})
    plugin.expfw_sweep_ended(tmp_path, added.append)
    ((key, values, curves, metric),) = calls
    assert (key, values, metric) == ("model.degree", ["0", "2"], "loss")
    assert curves["val/loss"] == [1.0, 2.0]
    assert curves["train/loss"] == [pytest.approx(float("nan"), nan_ok=True), 0.5]
