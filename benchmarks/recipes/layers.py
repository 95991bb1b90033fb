"""Checks of the recipes with dense layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from outcomes import check_picture, measure_accuracy
from rows import Row, check_at_least, check_between, check_equal, check_near

if TYPE_CHECKING:
    from session import RecordedRun, Session


def check_perceptron(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    longer_run = session.run(*arguments, "train.steps=2750")
    writers = sorted(path.name for path in (recorded_run.folder / "tensorboard").iterdir())
    return [
        check_at_least("test accuracy after 1,000 steps", recorded_run.get_values("test/accuracy")[-1], 0.91),
        check_between("test accuracy after 2,750 steps", longer_run.get_values("test/accuracy")[-1], 0.915, 0.93),
        check_equal("TensorBoard subfolders", " ".join(writers), "test train val"),
        check_equal(
            "TensorBoard histograms and images", " ".join(_read_tensorboard_tags(recorded_run)), "bias weight weights"
        ),
        check_picture(recorded_run, "weights"),
    ]


def _read_tensorboard_tags(recorded_run: RecordedRun) -> list[str]:
    """Returns the tags of histograms and images of the training."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(recorded_run.folder / "tensorboard" / "train"))
    events.Reload()
    plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
    return sorted(tag for tag, plugin in plugins.items() if plugin in ("histograms", "images"))


def check_perceptron_mean(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    return [check_at_least("test accuracy after 1,000 steps", recorded_run.get_values("test/accuracy")[-1], 0.77)]


def check_mlp_layers(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    losses = recorded_run.get_values("train/epoch_loss")
    expected = {1: 1.538, 2: 0.941, 10: 0.406, 50: 0.213}
    return [
        *(
            check_near(f"loss of epoch {e}", losses[e - 1], value, 0.1 * value, digits=4)
            for e, value in expected.items()
        ),
        check_near("test accuracy", recorded_run.get_values("test/accuracy")[-1], 0.939, 0.006, digits=4),
    ]


def check_mlp_keras(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    return [
        check_near("loss of epoch 1", recorded_run.get_values("train/epoch_loss")[0], 0.72, 0.05, digits=4),
        check_near("validation loss of epoch 1", recorded_run.get_values("val/loss")[0], 0.36, 0.03, digits=4),
        check_between(
            "accuracy on all 60,000, as in the sources", measure_accuracy(recorded_run, "train"), 0.9885, 0.9905
        ),
        check_between("test accuracy", recorded_run.get_values("test/accuracy")[-1], 0.960, 0.966),
    ]


def check_activations(session: Session, arguments: list[str]) -> list[Row]:
    from expfw_models.building_blocks.activations import get_activation

    x, w = np.array([1, 1.4, 2.5], np.float32), np.array([0.4, 0.3, 0.5], np.float32)
    logistic = get_activation("logistic")(np.float32(x @ w))
    softmax = get_activation("softmax")(np.array([[1.78, 0.76, 1.65]], np.float32)).numpy()[0]
    recorded_sweep = session.run(*arguments)
    names = arguments[-1].partition("=")[2].split(",")
    accuracies = dict(
        zip(names, (trial.get_values("test/accuracy")[-1] for trial in recorded_sweep.read_trials()), strict=True)
    )
    learning_accuracies = [
        accuracies[name] for name in ("logistic", "tanh", "relu", "leaky_relu", "elu", "piecewise_linear")
    ]
    return [
        check_near("logistic of the net input", float(logistic), 0.888, 5e-4, digits=4),
        *(check_near(f"softmax, entry {i}", float(actual), e, 1e-7, digits=8)
          for i, (actual, e) in enumerate(zip(softmax, (0.44668973, 0.16107406, 0.39223621), strict=True))),
        check_equal("activations swept", len(accuracies), len(names)),
        check_at_least("lowest accuracy of the activations that learn (ours)", min(learning_accuracies), 0.5),
        check_picture(recorded_sweep.read_trials()[0], "activations"),
        check_picture(recorded_sweep, "against_model.activation"),
    ]  # fmt: skip


def check_gradient_parts(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    norms = {name: values for name, values in recorded_run.points.items() if name.startswith("gradient/")}
    all_finite = all(math.isfinite(value) and value > 0 for values in norms.values() for value in values.values())
    return [
        check_equal("variables with a norm", len(norms), 6),
        check_equal("measurements of each", min(len(values) for values in norms.values()), 22),
        check_equal("all finite and above zero", all_finite, True),
        check_equal("histograms", (recorded_run.folder / "tensorboard" / "gradients").is_dir(), True),
    ]
