"""What recipes of networks with dense layers must show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from outcomes import accuracy_on, picture
from rows import Row, at_least, between, equal, near

if TYPE_CHECKING:
    from session import Outcome, Session


def perceptron(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    longer = session.run(*words, "train.steps=2750")
    writers = sorted(path.name for path in (made.folder / "tensorboard").iterdir())
    return [
        at_least("test accuracy after 1,000 steps", made.values("test/accuracy")[-1], 0.91),
        between("test accuracy after 2,750 steps", longer.values("test/accuracy")[-1], 0.915, 0.93),
        equal("writers of TensorBoard", " ".join(writers), "test train val"),
        equal("histograms and images there", " ".join(_tensorboard(made)), "bias weight weights"),
        picture(made, "weights"),
    ]


def _tensorboard(made: Outcome) -> list[str]:
    """What TensorBoard has of a training, beside scalars: histograms of variables, weights as images."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(made.folder / "tensorboard" / "train"))
    events.Reload()
    plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
    return sorted(tag for tag, plugin in plugins.items() if plugin in ("histograms", "images"))


def perceptron_mean(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    return [at_least("test accuracy after 1,000 steps", made.values("test/accuracy")[-1], 0.77)]


def mlp_layers(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    losses = made.values("train/epoch_loss")
    expected = {1: 1.538, 2: 0.941, 10: 0.406, 50: 0.213}
    return [
        *(near(f"loss of epoch {e}", losses[e - 1], value, 0.1 * value, digits=4) for e, value in expected.items()),
        near("test accuracy", made.values("test/accuracy")[-1], 0.939, 0.006, digits=4),
    ]


def mlp_keras(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    return [
        near("loss of epoch 1", made.values("train/epoch_loss")[0], 0.72, 0.05, digits=4),
        near("validation loss of epoch 1", made.values("val/loss")[0], 0.36, 0.03, digits=4),
        between("accuracy on all 60,000, as the sources take it", accuracy_on(made, "train"), 0.9885, 0.9905),
        between("test accuracy", made.values("test/accuracy")[-1], 0.960, 0.966),
    ]


def activations(session: Session, words: list[str]) -> list[Row]:
    from expfw_models.building_blocks.activations import by_name

    x, w = np.array([1, 1.4, 2.5], np.float32), np.array([0.4, 0.3, 0.5], np.float32)
    softmax = by_name("softmax")(np.array([[1.78, 0.76, 1.65]], np.float32)).numpy()[0]
    made = session.run(*words)
    names = words[-1].partition("=")[2].split(",")
    accuracies = dict(zip(names, (trial.values("test/accuracy")[-1] for trial in made.trials()), strict=True))
    learning = [accuracies[name] for name in ("logistic", "tanh", "relu", "leaky_relu", "elu", "piecewise_linear")]
    return [
        near("logistic of the net input", float(by_name("logistic")(np.float32(x @ w))), 0.888, 5e-4, digits=4),
        *(near(f"softmax, entry {i}", float(got), e, 1e-7, digits=8)
          for i, (got, e) in enumerate(zip(softmax, (0.44668973, 0.16107406, 0.39223621), strict=True))),
        equal("activations swept", len(accuracies), len(names)),
        at_least("accuracy, the least of those that learn (ours)", min(learning), 0.5),
        picture(made.trials()[0], "activations"),
        picture(made, "against_model.activation"),
    ]  # fmt: skip


def gradient_parts(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    norms = {name: values for name, values in made.points.items() if name.startswith("gradient/")}
    finite = all(math.isfinite(value) and value > 0 for values in norms.values() for value in values.values())
    return [
        equal("variables with a norm", len(norms), 6),
        equal("looks at each", min(len(values) for values in norms.values()), 22),
        equal("all finite and above zero", finite, True),
        equal("histograms", (made.folder / "tensorboard" / "gradients").is_dir(), True),
    ]
