"""Checks of the recipes with convolutional networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from outcomes import measure_accuracy, read_model_arrays
from rows import Row, check_at_least, check_at_most, check_between, check_equal, check_near

if TYPE_CHECKING:
    from session import Session


def check_cnn(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    accuracy = recorded_run.get_values("test/accuracy")[-1]
    return [
        check_between("test accuracy after 20,000 steps", accuracy, 0.991, 0.993),
        check_near(
            "the saved model on raw pixels of the test file",
            measure_accuracy(recorded_run, "t10k"),
            accuracy,
            1e-6,
            digits=4,
        ),
        check_at_most(
            "seconds (the source's table: K80 221, K40 397, 28-core CPU 1,308)", recorded_run.seconds, 1308, digits=4
        ),
    ]


def check_cnn_early_stopping(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    validation = recorded_run.points["val/accuracy"]
    expected = {100: 0.895, 500: 0.963, 1000: 0.975, 2000: 0.983}
    return [
        *(
            check_near(f"validation accuracy at step {s:,}", validation[s], e, 0.02, digits=4)
            for s, e in expected.items()
        ),
        check_near("best validation accuracy", max(validation.values()), 0.9922, 0.003, digits=4),
        check_near("test accuracy of the best", recorded_run.get_values("test/accuracy")[-1], 0.9919, 0.003, digits=4),
        check_equal("evaluations since the best one", _count_checks_since_best(validation), 20),
    ]


def _count_checks_since_best(validation: dict[int, float]) -> int:
    return (max(validation) - max(validation, key=lambda step: (validation[step], -step))) // 100


def check_cnn_multi_device(session: Session, arguments: list[str]) -> list[Row]:
    single_device_arguments = [argument for argument in arguments if not argument.startswith("backend")]
    devices = {"two": arguments, "one": [*single_device_arguments, "backend=tf-cpu"]}
    devices["one thread"] = [*devices["one"], "backend.threads=1"]
    short_run_overrides = ["model.dropout=0", "train.steps=100", "train.log_every=1", "callback=[]"]

    def run_and_get_losses(device: str, precision: str) -> list[float]:
        return session.run(*devices[device], *short_run_overrides, f"backend.precision={precision}").get_values(
            "train/loss"
        )

    def get_largest_difference(first: list[float], second: list[float]) -> float:
        return float(np.abs(np.subtract(first, second)).max())

    float64_losses = [run_and_get_losses(device, "float64") for device in ("one", "two")]
    one_device_losses, two_device_losses, one_thread_losses = (
        run_and_get_losses(device, "float32") for device in ("one", "two", "one thread")
    )
    accuracy, one_device_accuracy = (
        session.run(*devices[device]).get_values("test/accuracy")[-1] for device in ("two", "one")
    )
    return [
        check_equal("losses compared", len(float64_losses[0]), 100),
        check_at_most(
            "largest difference of two replicas and one device, float64, no dropout",
            get_largest_difference(*float64_losses),
            1e-6,
        ),
        check_at_most(
            "the same in float32, compared with one device with one thread instead of two",
            get_largest_difference(one_device_losses, two_device_losses),
            2 * get_largest_difference(one_device_losses, one_thread_losses),
        ),
        check_near(
            "test accuracy with dropout, compared with one device with batches of 200",
            accuracy,
            one_device_accuracy,
            0.003,
            digits=4,
        ),
    ]


def check_cnn_batch_norm(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    accuracy = recorded_run.get_values("test/accuracy")[-1]
    return [
        check_at_least("test accuracy after 2,000 steps (ours)", accuracy, 0.98),
        check_near(
            "the saved model, with its moving averages, on raw pixels",
            measure_accuracy(recorded_run, "t10k"),
            accuracy,
            1e-6,
            digits=4,
        ),
    ]


def check_cnn_augmented(session: Session, arguments: list[str]) -> list[Row]:
    recorded_run = session.run(*arguments)
    return [
        check_at_least("test accuracy (ours)", recorded_run.get_values("test/accuracy")[-1], 0.994),
        check_at_most("seconds, compared with cnn", recorded_run.seconds, session.first_runs["cnn"].seconds, digits=3),
    ]


def check_alexnet(session: Session, arguments: list[str]) -> list[Row]:
    overrides = arguments[1:]
    return [
        check_equal("parameters, two groups", session.show(*overrides)["parameters"], 60_965_224),
        check_equal("parameters, one group", session.show(*overrides, "model.groups=1")["parameters"], 62_378_344),
        check_equal(
            "steps of a short run", len(session.run("run", *overrides, "train.log_every=1").get_values("train/loss")), 2
        ),
    ]


def check_alexnet_small(session: Session, arguments: list[str]) -> list[Row]:
    return [check_at_least("test accuracy (ours)", session.run(*arguments).get_values("test/accuracy")[-1], 0.985)]


def check_alexnet_small_cifar10(session: Session, arguments: list[str]) -> list[Row]:
    return [
        check_at_least(
            "test accuracy (ours; 9,000 training images)",
            session.run(*arguments).get_values("test/accuracy")[-1],
            0.55,
        )
    ]


def check_transfer(session: Session, arguments: list[str]) -> list[Row]:
    source_run = session.run("run", "experiment=transfer_source", *arguments[2:-1])
    transfer_override = f"callback.transfer.model={source_run.folder}"
    transfer_runs = [session.run(*arguments[:-1], transfer_override, f"seed={seed}") for seed in range(3)]
    plain_runs = [session.run(*arguments[:-1], "callback=[]", f"seed={seed}") for seed in range(3)]
    source_arrays = read_model_arrays(source_run)
    frozen_names = list(source_arrays)[:4]
    changed_count = sum(
        int((source_arrays[name] != read_model_arrays(recorded_run)[name]).sum())
        for name in frozen_names
        for recorded_run in transfer_runs
    )
    accuracies = [
        [recorded_run.get_values("test/accuracy")[-1] for recorded_run in runs] for runs in (transfer_runs, plain_runs)
    ]
    means = [float(np.mean(values)) for values in accuracies]
    return [
        check_at_least(
            "test accuracy of the source network on 0 to 4 (ours)", source_run.get_values("test/accuracy")[-1], 0.985
        ),
        check_equal("number of frozen weights", sum(source_arrays[name].size for name in frozen_names), 52_096),
        check_equal("frozen weights that changed in three runs", changed_count, 0),
        check_at_least(
            f"test accuracy on 5 to 9 from 20 images, mean of three seeds; without transfer, {means[1]:.4f}",
            means[0],
            means[1],
        ),
        check_equal(
            "seeds with a higher accuracy with transfer", sum(a > b for a, b in zip(*accuracies, strict=True)), 3
        ),
    ]
