"""What every plugin promises that takes part in a training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np

from expfw.api import checkpoints
from expfw.api.data import DataSpec
from expfw.api.run import FINISHED, Result
from expfw.runs import exact_comparison
from expfw.testing.bench import Bench, Points, read_run_points
from expfw.testing.contract import PluginContract
from expfw.testing.failure import fail
from expfw.testing.small_data import format_spec
from expfw.testing.words import make_override

CHECKPOINT_EVERY_STEPS, INTERRUPT_STEP = 5, 11
"""Steps from one checkpoint to the next, and at which step a run is interrupted: in the middle of an epoch."""
TOLERANCE = 1e-4
"""How far numbers of different processes may be apart, as a share of them."""


class RunContract(PluginContract):
    """The checks of a plugin in real runs: on small data, some epochs of four steps of eight samples.

    Attributes:
        data: what the small data look like; a model says what it takes.
        epochs: how long it is trained.
        overrides: further overrides of all runs, as on the command line.
    """

    data: ClassVar[DataSpec] = DataSpec((8, 8, 1), 3)
    epochs: ClassVar[int] = 5
    overrides: ClassVar[tuple[str, ...]] = ()

    def make_run_overrides(self, bench: Bench) -> list[str]:
        """The overrides of a run with the plugin in it."""
        return [
            "dataset=small_data",
            make_override("dataset.spec", format_spec(self.data)),
            *self.select_plugins(bench),
            f"train.epochs={self.epochs}",
            *("train.batch_size=8", "train.log_every=1", "seed=3"),
            f"callback.checkpoint.every.steps={CHECKPOINT_EVERY_STEPS}",
            *self.overrides,
        ]

    def select_plugins(self, bench: Bench) -> list[str]:
        """The overrides that choose model, backend and callbacks; later ones win."""
        return ["model=mlp_keras", "callback=[checkpoint]", *bench.select_plugin()]

    def test_trains(self, expfw_bench: Bench) -> None:
        """A run with it comes to its end, without a warning."""
        result = expfw_bench.run()
        if result.status != FINISHED:
            fail(
                f"a run with {expfw_bench.plugin_label} ended as {result.status} "
                f"({result.error or 'it says no reason'})",
                f"see {result.folder}",
            )
        if result.warnings:
            fail(
                f"a run with {expfw_bench.plugin_label} warns: {'; '.join(result.warnings)}",
                "an observing hook that raises is off for the rest of a run: catch what you can mend",
            )

    def test_same_seed_same_numbers(self, expfw_bench: Bench) -> None:
        """With the same seed, every logged number is the same to the bit."""
        bench = expfw_bench
        all_points, (_, interrupted_points) = read_run_points(bench.run().folder), bench.interrupt_run(INTERRUPT_STEP)
        lines = [
            _describe_difference(key, all_points.get(key), interrupted_points[key])
            for key in sorted(interrupted_points, key=_sort_key)
        ]
        differing = [line for line in lines if line]
        if differing:
            fail(
                f"two runs with {bench.plugin_label} and the same seed differ: {differing[0]} ({len(differing)} "
                "in all)",
                "take randomness from keras.random.SeedGenerator, tf.random.Generator, stateless operations, or "
                "NumPy's and Python's global generators, which a run seeds; never from the clock or the system",
            )

    def test_goes_on_exactly(self, expfw_bench: Bench) -> None:
        """A run that was interrupted and goes on from a checkpoint is the run that never was, to the bit."""
        bench = expfw_bench
        uninterrupted_folder, (folder, _) = bench.run().folder, bench.interrupt_run(INTERRUPT_STEP)
        result, _ = bench.resume_run(folder)
        differences = [
            *exact_comparison.compare_runs(uninterrupted_folder, folder).differences,
            *_compare_checkpoints(uninterrupted_folder, folder),
        ]
        if differences:
            first_difference, more_count = differences[0], len(differences) - 1
            fail(
                f"a run with {bench.plugin_label} that goes on is not the run that was never interrupted: "
                f"{first_difference}" + (f" (and {more_count} more)" if more_count else ""),
                self.get_resume_remedy(),
            )
        if resume_warnings := [text for text in result.warnings if "going on" in text]:
            fail(f"a run with {bench.plugin_label} that goes on warns: {resume_warnings[0]}", self.get_resume_remedy())

    def get_resume_remedy(self) -> str:
        """What to do where it does not go on exactly."""
        return (
            "keep all that changes while training where a checkpoint finds it: in tf.Variables and SeedGenerators that "
            "the model tracks; nothing in plain Python attributes, nothing drawn by op-level tf.random functions"
        )

    def test_works_in_a_trial(self, expfw_bench: Bench) -> None:
        """It works in a process of its own, forked from the warm server of a sweep, and gives the same numbers."""
        bench = expfw_bench
        expected, actual = read_run_points(bench.run().folder), read_run_points(bench.run_in_trial_process())
        remedy = "let nothing depend on what a process did before"
        self.check_same_losses(bench, expected, actual, "in the process of a trial", remedy)

    def check_same_losses(self, bench: Bench, expected: Points, actual: Points, context: str, remedy: str) -> None:
        """Fails where the losses of two runs are further apart than rounding explains."""
        for key in sorted(expected, key=_sort_key):
            if key[0] != "train/loss" or key not in actual:
                continue
            if not np.allclose(expected[key], actual[key], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                fail(
                    f"{bench.plugin_label} gives other numbers {context}: "
                    f"{_describe_difference(key, expected[key], actual[key])}",
                    remedy,
                )


def read_metric(result: Result, metric: str = "train/epoch_loss") -> list[float]:
    """The values of a metric, in the order of the steps."""
    points = read_run_points(result.folder)
    return [points[key][0] for key in sorted(points, key=_sort_key) if key[0] == metric]


def _compare_checkpoints(expected_folder: Path, actual_folder: Path) -> Iterable[str]:
    """In what the newest checkpoints of two runs differ."""
    expected, actual = (
        next(checkpoints.read_usable_checkpoints(folder, report=_ignore_line), None)
        for folder in (expected_folder, actual_folder)
    )
    if expected is None or actual is None:
        return
    yield from exact_comparison.compare_arrays(expected.model.arrays, actual.model.arrays)
    for name, state in expected.plugins.items():
        if actual.plugins.get(name) != state:
            yield f"the state of {name} is {actual.plugins.get(name)}, was {state}"


def _ignore_line(line: str) -> None:
    """A damaged checkpoint is seen by who needs it."""


def _sort_key(key: tuple[str, int]) -> tuple[int, str]:
    return key[1], key[0]


def _describe_difference(key: tuple[str, int], expected: list[float] | None, actual: list[float]) -> str:
    is_same = expected is not None and np.array_equal(expected, actual, equal_nan=True)
    return "" if is_same else f"{key[0]} at step {key[1]} is {expected} and {actual}"
