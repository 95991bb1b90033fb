"""Contract of all plugins that are used in training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np

from expfw.api import checkpoints
from expfw.api.data import DataSpec
from expfw.api.result import FINISHED, Result
from expfw.runs import exact_comparison
from expfw.testing.bench import Bench, Points, read_run_points
from expfw.testing.contract import PluginContract
from expfw.testing.failure import fail
from expfw.testing.overrides import make_override
from expfw.testing.small_data import format_spec

CHECKPOINT_EVERY_STEPS, INTERRUPT_STEP = 5, 11
"""Interval of checkpoints in steps, and the step of an interruption: in the middle of an epoch."""
TOLERANCE = 1e-4
"""Relative and absolute tolerance for losses of different processes."""


class RunContract(PluginContract):
    """The checks of a plugin in real runs, on small data with four steps of eight samples per epoch.

    Attributes:
        data: specification of the small data; set it to data that a model accepts.
        epochs: number of epochs of each run.
        overrides: additional overrides of all runs, as on the command line.
    """

    data: ClassVar[DataSpec] = DataSpec((8, 8, 1), 3)
    epochs: ClassVar[int] = 5
    overrides: ClassVar[tuple[str, ...]] = ()

    def make_run_overrides(self, bench: Bench) -> list[str]:
        """Returns the overrides of a run with the plugin."""
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
        """Returns the overrides that select model, backend and callbacks; later ones take precedence."""
        return ["model=mlp_keras", "callback=[checkpoint]", *bench.select_plugin()]

    def test_trains(self, expfw_bench: Bench) -> None:
        """A run ends with status FINISHED and without warnings."""
        result = expfw_bench.run()
        if result.status != FINISHED:
            fail(
                f"a run with {expfw_bench.plugin_label} ended as {result.status} "
                f"({result.error or 'no error message'})",
                f"see {result.folder}",
            )
        if result.warnings:
            fail(
                f"a run with {expfw_bench.plugin_label} warns: {'; '.join(result.warnings)}",
                "catch exceptions in observing hooks: a hook that raises is disabled for the rest of the run",
            )

    def test_same_seed_gives_same_metrics(self, expfw_bench: Bench) -> None:
        """Two runs with the same seed log bit-identical metrics."""
        bench = expfw_bench
        all_points, (_, interrupted_points) = read_run_points(bench.run().folder), bench.interrupt_run(INTERRUPT_STEP)
        lines = [
            _describe_difference(key, all_points.get(key), interrupted_points[key])
            for key in sorted(interrupted_points, key=_sort_key)
        ]
        differing = [line for line in lines if line]
        if differing:
            fail(
                f"two runs with {bench.plugin_label} and the same seed differ: {differing[0]} "
                f"({len(differing)} differences)",
                "draw random numbers from keras.random.SeedGenerator, tf.random.Generator, stateless operations, or "
                "NumPy's and Python's global generators, which a run seeds; never from the clock or the system",
            )

    def test_resume_is_bit_identical(self, expfw_bench: Bench) -> None:
        """A run that was interrupted and resumed from a checkpoint is bit-identical to an uninterrupted run."""
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
                f"a resumed run with {bench.plugin_label} differs from the uninterrupted run: "
                f"{first_difference}" + (f" (and {more_count} more)" if more_count else ""),
                self.get_resume_remedy(),
            )
        if resume_warnings := [text for text in result.warnings if "after resuming" in text]:
            fail(f"a resumed run with {bench.plugin_label} warns: {resume_warnings[0]}", self.get_resume_remedy())

    def get_resume_remedy(self) -> str:
        """Returns advice for a plugin if a resumed run is not bit-identical."""
        return (
            "store all state that changes in training in tf.Variables and SeedGenerators that the model tracks; "
            "do not use plain Python attributes or op-level tf.random functions"
        )

    def test_works_in_a_trial_process(self, expfw_bench: Bench) -> None:
        """The plugin works in a trial process, forked from the fork server of a sweep, with the same losses."""
        bench = expfw_bench
        expected, actual = read_run_points(bench.run().folder), read_run_points(bench.run_in_trial_process())
        remedy = "do not depend on earlier work of the same process"
        self.check_same_losses(bench, expected, actual, "in a trial process", remedy)

    def check_same_losses(self, bench: Bench, expected: Points, actual: Points, context: str, remedy: str) -> None:
        """Fails if the losses of two runs differ by more than rounding."""
        for key in sorted(expected, key=_sort_key):
            if key[0] != "train/loss" or key not in actual:
                continue
            if not np.allclose(expected[key], actual[key], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                fail(
                    f"{bench.plugin_label} computes different losses {context}: "
                    f"{_describe_difference(key, expected[key], actual[key])}",
                    remedy,
                )


def read_metric(result: Result, metric: str = "train/epoch_loss") -> list[float]:
    """Returns the values of a metric in the order of the steps."""
    points = read_run_points(result.folder)
    return [points[key][0] for key in sorted(points, key=_sort_key) if key[0] == metric]


def _compare_checkpoints(expected_folder: Path, actual_folder: Path) -> Iterable[str]:
    """Yields the differences between the newest checkpoints of two runs."""
    expected, actual = (
        next(checkpoints.read_usable_checkpoints(folder, report=_ignore_line), None)
        for folder in (expected_folder, actual_folder)
    )
    if expected is None or actual is None:
        return
    yield from exact_comparison.compare_arrays(expected.model.arrays, actual.model.arrays)
    for name, state in expected.plugins.items():
        if actual.plugins.get(name) != state:
            yield f"the state of {name} is {actual.plugins.get(name)}; expected {state}"


def _ignore_line(line: str) -> None:
    """Ignores a report about a damaged checkpoint."""


def _sort_key(key: tuple[str, int]) -> tuple[int, str]:
    return key[1], key[0]


def _describe_difference(key: tuple[str, int], expected: list[float] | None, actual: list[float]) -> str:
    is_same = expected is not None and np.array_equal(expected, actual, equal_nan=True)
    return "" if is_same else f"{key[0]} at step {key[1]} is {actual}; expected {expected}"
