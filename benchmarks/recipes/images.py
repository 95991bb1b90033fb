"""What recipes of convolutional networks must show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from outcomes import accuracy_on, arrays
from rows import Row, at_least, at_most, between, equal, near

if TYPE_CHECKING:
    from session import Session


def cnn(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    got = made.values("test/accuracy")[-1]
    return [
        between("test accuracy after 20,000 steps", got, 0.991, 0.993),
        near("the saved model on raw pixels of the test file", accuracy_on(made, "t10k"), got, 1e-6, digits=4),
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
            "the saved model, by its moving averages, on raw pixels",
            accuracy_on(made, "t10k"),
            accuracy,
            1e-6,
            digits=4,
        ),
    ]


def cnn_augmented(session: Session, words: list[str]) -> list[Row]:
    made = session.run(*words)
    return [
        at_least("test accuracy (ours)", made.values("test/accuracy")[-1], 0.994),
        at_most("seconds, beside those of cnn", made.seconds, session.first["cnn"].seconds, digits=3),
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


def transfer(session: Session, words: list[str]) -> list[Row]:
    source = session.run("run", "experiment=transfer_source", *words[2:-1])
    take = f"callback.transfer.model={source.folder}"
    with_it = [session.run(*words[:-1], take, f"seed={seed}") for seed in range(3)]
    alone = [session.run(*words[:-1], "callback=[]", f"seed={seed}") for seed in range(3)]
    before = arrays(source)
    frozen = list(before)[:4]
    changed = sum(int((before[name] != arrays(made)[name]).sum()) for name in frozen for made in with_it)
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
