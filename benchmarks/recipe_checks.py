"""What each recipe must show, and where it is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from recipe_rows import Row, at_least, at_most, between, equal, near

if TYPE_CHECKING:
    from recipes import Outcome, Session

COSTS = [32.431, 6.011309, 1.446125, 0.656593, 0.519363, 0.494835, 0.489788, 0.488115, 0.487033, 0.486063]


@dataclass(frozen=True)
class Recipe:
    source: str
    command: str
    check: Callable[[Session, list[str]], list[Row]]


def _line(outcome: Outcome) -> tuple[float, float]:
    """Weight and bias of a fitted line, from the saved arrays (by position: bias, weight)."""
    bias, weight = _arrays(outcome).values()
    return float(weight.item()), float(bias.item())


def _arrays(outcome: Outcome) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(sorted(load_file(outcome.folder / "model" / "weights.safetensors").items()))


def _accuracy(outcome: Outcome, part: str) -> float:
    """Of the saved model on raw pixels of a whole MNIST file."""
    import expfw
    from expfw_datasets.idx import read_idx

    folder = outcome.data / "mnist"
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    output = expfw.load_model(outcome.folder / "model").predict(pixels)
    return float(np.mean(output.argmax(axis=1) == labels))


def ols(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    costs = made.values("train/epoch_loss")
    weight, bias = _line(made)
    long = session.run(*words, "train.epochs=3000", "train.log_every=1000")
    limit_weight, limit_bias = _line(long)
    return [
        *(near(f"cost of epoch {i}", g, e, 1e-4) for i, (g, e) in enumerate(zip(costs, COSTS, strict=True), start=1)),
        near("w after 10 epochs", weight, 1.02732, 1e-4),
        near("b after 10 epochs", bias, 0.19570, 1e-4),
        near("w after 3,000 epochs, beside the closed form", limit_weight, 0.942424, 1e-4),
        near("b after 3,000 epochs, beside the closed form", limit_bias, 0.729091, 1e-4),
        _picture(made, "fitted_line"),
    ]


def _picture(made: Outcome, name: str) -> Row:
    return equal(f"picture {name}.png", (made.folder / "pictures" / f"{name}.png").is_file(), True)


def linear_lab(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    losses = made.points["train/loss"]
    weight, bias = _line(made)
    x, y = np.arange(1, 5), -np.arange(4)
    line = (np.float32(weight) * x.astype(np.float32) + np.float32(bias)).astype(np.float32)
    end = float(np.sum(np.square(line - y.astype(np.float32))))
    return [
        near("loss at step 0", losses[0], 23.66, 1e-4),
        near("loss at step 100", losses[100], 0.146364, 1e-6),
        near("loss at step 200", losses[200], 0.0131513, 1e-7),
        near("W at the end", weight, -0.9999969, 1e-6),
        near("b at the end", bias, 0.9999908, 3e-6),
        near("loss at the end", end, 5.7e-11, 2e-11, digits=3),
    ]


def linear_lab_eval(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    return [
        at_most("train loss at the end", made.values("train/epoch_loss")[-1], 1e-6),
        near("evaluation loss at the end", made.values("val/loss")[-1], 0.0025, 1e-4, digits=4),
    ]


def polynomial(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    train, validation = _errors(made)
    best = int(np.argmin(validation))
    return [
        equal("trials", len(train), len(words[-1].split(","))),
        at_most("training error of the highest degree, beside the lowest", train[-1] / train[0], 0.5),
        at_most("validation error of the best degree, beside the lowest", validation[best] / validation[0], 0.5),
        at_least("validation error of the highest degree, beside the best", validation[-1] / validation[best], 1.2),
        _picture(made, "against_model.degree"),
    ]


def polynomial_samples(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    train, validation = _errors(made)
    return [
        equal("trials", len(train), len(words[-1].split(","))),
        at_least("validation by training error, fewest samples", validation[0] / train[0], 2.0),
        between("validation by training error, most samples", validation[-1] / train[-1], 0.6, 1.5),
        between("training error, most samples; the noise is 0.09", train[-1], 0.06, 0.12),
        _picture(made, "against_dataset.limit"),
    ]


def _errors(sweep: Outcome) -> tuple[list[float], list[float]]:
    trials = sweep.trials()
    return tuple(  # type: ignore[return-value]
        [trial.values(f"{split}mean_squared_error")[-1] for trial in trials] for split in ("train/epoch_", "val/")
    )


def perceptron(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    longer = session.run(*words, "train.steps=2750")
    writers = sorted(path.name for path in (made.folder / "tensorboard").iterdir())
    return [
        at_least("test accuracy after 1,000 steps", made.values("test/accuracy")[-1], 0.91),
        between("test accuracy after 2,750 steps", longer.values("test/accuracy")[-1], 0.915, 0.93),
        equal("writers of TensorBoard", " ".join(writers), "test train val"),
        equal("histograms and images there", " ".join(_tensorboard(made)), "bias weight weights"),
        _picture(made, "weights"),
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
        between("accuracy on all 60,000, as the sources take it", _accuracy(made, "train"), 0.9885, 0.9905),
        between("test accuracy", made.values("test/accuracy")[-1], 0.960, 0.966),
    ]


def cnn(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    got = made.values("test/accuracy")[-1]
    return [
        between("test accuracy after 20,000 steps", got, 0.991, 0.993),
        near("the saved model on raw pixels of the test file", _accuracy(made, "t10k"), got, 1e-6, digits=4),
        at_most("seconds (the source's table: K80 221, K40 397, 28-core CPU 1,308)", made.seconds, 1308, digits=4),
    ]


def cnn_early_stopping(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    validation = made.points["val/accuracy"]
    expected = {100: 0.895, 500: 0.963, 1000: 0.975, 2000: 0.983}
    return [
        *(near(f"validation accuracy at step {s:,}", validation[s], e, 0.02, digits=4) for s, e in expected.items()),
        near("best validation accuracy", max(validation.values()), 0.9922, 0.003, digits=4),
        near("test accuracy of the best", made.values("test/accuracy")[-1], 0.9919, 0.003, digits=4),
        equal("checks since the best one", _checks_since_best(validation), 20),
    ]


def _checks_since_best(validation: dict[int, float]) -> int:
    return (max(validation) - max(validation, key=lambda step: (validation[step], -step))) // 100


def cnn_multi_device(session: Session, words: list[str]) -> list[Row]:
    single = [word for word in words if not word.startswith("backend")]
    devices = {"two": words, "one": [*single, "backend=tf-cpu"]}
    devices["one thread"] = [*devices["one"], "backend.threads=1"]
    short = ["model.dropout=0", "train.steps=100", "train.log_every=1", "callback=[]"]

    def losses(on: str, precision: str) -> list[float]:
        return session.run(*devices[on], *short, f"backend.precision={precision}").values("train/loss")

    def difference(first: list[float], second: list[float]) -> float:
        return float(np.abs(np.subtract(first, second)).max())

    exact = [losses(on, "float64") for on in ("one", "two")]
    one, two, thread = (losses(on, "float32") for on in ("one", "two", "one thread"))
    accuracy, alone = (session.run(*devices[on]).values("test/accuracy")[-1] for on in ("two", "one"))
    return [
        equal("losses compared", len(exact[0]), 100),
        at_most("largest difference of two replicas and one device, float64, no dropout", difference(*exact), 1e-4),
        at_most(
            "the same in float32, beside one device with one thread instead of two",
            difference(one, two),
            2 * difference(one, thread),
        ),
        near("test accuracy with dropout, beside one device with batches of 200", accuracy, alone, 0.003, digits=4),
    ]


def cnn_batch_norm(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    accuracy = made.values("test/accuracy")[-1]
    return [
        at_least("test accuracy after 2,000 steps (ours)", accuracy, 0.98),
        near(
            "the saved model, by its moving averages, on raw pixels", _accuracy(made, "t10k"), accuracy, 1e-6, digits=4
        ),
    ]


def alexnet(session: Session, words: list[str]) -> list[Row]:
    experiment = words[1:]
    return [
        equal("parameters, two groups", session.show(*experiment)["parameters"], 60_965_224),
        equal("parameters, without", session.show(*experiment, "model.groups=1")["parameters"], 62_378_344),
        equal(
            "steps of a short run", len(session.run("run", *experiment, "train.log_every=1").values("train/loss")), 2
        ),
    ]


def alexnet_small(session: Session, words: list[str]) -> list[Row]:
    return [at_least("test accuracy (ours)", session.run(*words).values("test/accuracy")[-1], 0.985)]


def alexnet_small_cifar10(session: Session, words: list[str]) -> list[Row]:
    return [
        at_least(
            "test accuracy (ours; 9,000 images to learn from)", session.run(*words).values("test/accuracy")[-1], 0.55
        )
    ]


def activations(session: Session, words: list[str]) -> list[Row]:
    from expfw_models.activations import by_name

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
        _picture(made.trials()[0], "activations"),
        _picture(made, "against_model.activation"),
    ]  # fmt: skip


def transfer(session: Session, words: list[str]) -> list[Row]:
    source = session.run("run", "experiment=transfer_source", *words[2:-1])
    take = f"callback.transfer.model={source.folder}"
    with_it = [session.run(*words[:-1], take, f"seed={seed}") for seed in range(3)]
    alone = [session.run(*words[:-1], "callback=[]", f"seed={seed}") for seed in range(3)]
    before = _arrays(source)
    frozen = list(before)[:4]
    changed = sum(int((before[name] != _arrays(made)[name]).sum()) for name in frozen for made in with_it)
    accuracies = [[made.values("test/accuracy")[-1] for made in runs] for runs in (with_it, alone)]
    means = [float(np.mean(values)) for values in accuracies]
    return [
        at_least("test accuracy of the source network on 0 to 4 (ours)", source.values("test/accuracy")[-1], 0.985),
        equal("frozen weights, numbers", sum(before[name].size for name in frozen), 52_096),
        equal("of them changed, in three runs", changed, 0),
        at_least(
            f"test accuracy on 5 to 9 from 20 images, mean of three seeds; alone it is {means[1]:.4f}",
            means[0],
            means[1],
        ),
        equal("seeds with which it is above training alone", sum(a > b for a, b in zip(*accuracies, strict=True)), 3),
    ]


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


def cnn_augmented(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    return [
        at_least("test accuracy (ours)", made.values("test/accuracy")[-1], 0.994),
        at_most("seconds, beside those of cnn", made.seconds, session.first["cnn"].seconds, digits=3),
    ]


_MNIST = "dataset.path=FOLDER_WITH_MNIST"
_NAMES = "logistic,tanh,relu,leaky_relu,elu,linear,unit_step,sign,piecewise_linear,softmax"
RECIPES = {
    "ols": Recipe("NTHU EE3700, chapter-13 notebook", "expfw run experiment=ols", ols),
    "linear_lab": Recipe("UChicago labs 3 and 4", "expfw run experiment=linear_lab", linear_lab),
    "linear_lab_eval": Recipe("UChicago lab 5", "expfw run experiment=linear_lab_eval", linear_lab_eval),
    "polynomial": Recipe(
        "UChicago equations 1 to 6", "expfw sweep experiment=polynomial model.degree=1,2,3,4,5,6,8,10,12", polynomial
    ),
    "polynomial_samples": Recipe(
        "UChicago equations 1 to 6",
        "expfw sweep experiment=polynomial_samples dataset.limit=10,15,20,30,50,80,140",
        polynomial_samples,
    ),
    "perceptron": Recipe("NTU, UChicago lab 6", f"expfw run experiment=perceptron {_MNIST}", perceptron),
    "perceptron_mean": Recipe("NTU", f"expfw run experiment=perceptron_mean {_MNIST}", perceptron_mean),
    "mlp_layers": Recipe("NTHU EE3700, chapter-13 notebook", f"expfw run experiment=mlp_layers {_MNIST}", mlp_layers),
    "mlp_keras": Recipe("NTHU EE3700, chapter-13 notebook", f"expfw run experiment=mlp_keras {_MNIST}", mlp_keras),
    "cnn": Recipe("UChicago lab 7, NTU, Purdue", f"expfw run experiment=cnn {_MNIST}", cnn),
    "cnn_early_stopping": Recipe("NTU", f"expfw run experiment=cnn_early_stopping {_MNIST}", cnn_early_stopping),
    "cnn_multi_device": Recipe(
        "NTU, Purdue", f"expfw run experiment=cnn_multi_device backend.cpus=2 {_MNIST}", cnn_multi_device
    ),
    "cnn_batch_norm": Recipe("Purdue", f"expfw run experiment=cnn_batch_norm {_MNIST}", cnn_batch_norm),
    "alexnet": Recipe("Purdue", "expfw show experiment=alexnet", alexnet),
    "alexnet_small": Recipe("Purdue", f"expfw run experiment=alexnet_small {_MNIST}", alexnet_small),
    "alexnet_small_cifar10": Recipe(
        "Purdue",
        "expfw run experiment=alexnet_small_cifar10 dataset.path=FOLDER_WITH_CIFAR10",
        alexnet_small_cifar10,
    ),
    "activations": Recipe(
        "NTHU EE3700, chapter-13 notebook, UChicago",
        f"expfw sweep experiment=activations model.activation={_NAMES}",
        activations,
    ),
    "transfer": Recipe(
        "UChicago",
        f"expfw run experiment=transfer {_MNIST} callback.transfer.model=FOLDER_OF_THE_RUN_OF_TRANSFER_SOURCE",
        transfer,
    ),
    "gradient_parts": Recipe("NTU", "expfw run experiment=gradient_parts", gradient_parts),
    "cnn_augmented": Recipe("beyond the sources", f"expfw run experiment=cnn_augmented {_MNIST}", cnn_augmented),
}
