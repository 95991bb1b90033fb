"""Contract of all plugins that are used in training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from expfw.api import checkpoints
from expfw.api.data import DataSpec, get_named_parts
from expfw.api.result import FINISHED
from expfw.config.overrides import format_override
from expfw.runs import exact_comparison
from expfw.testing.bench import Bench, read_run_points
from expfw.testing.contract import PluginContract
from expfw.testing.small_data import write_spec

CHECKPOINT_EVERY_STEPS = 5
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
        spec_file = bench.folder / "spec.json"
        if not spec_file.exists():
            write_spec(self.data, spec_file)
        return [
            *self.select_dataset(bench, spec_file),
            *self.select_plugins(bench),
            f"train.epochs={self.epochs}",
            *("train.batch_size=8", "train.log_every=1", "seed=3"),
            f"callback.checkpoint.every.steps={CHECKPOINT_EVERY_STEPS}",
            *self.overrides,
        ]

    def select_dataset(self, bench: Bench, spec_file: Path) -> list[str]:
        """Returns the overrides that select the dataset; by default small data with the specification in a file."""
        return ["dataset=small_data", format_override("dataset.spec", spec_file)]

    def select_plugins(self, bench: Bench) -> list[str]:
        """Returns the overrides that select model, backend and callbacks; later ones take precedence."""
        return ["model=mlp_keras", "callback=[checkpoint]", *bench.select_plugin()]

    def test_trains(self, expfw_bench: Bench) -> None:
        """A run ends with status FINISHED and without warnings."""
        result = expfw_bench.run()
        if result.status != FINISHED:
            problem = f"a run ended as {result.status} ({result.error or 'no error message'})"
            expfw_bench.fail(problem, f"see {result.folder}")
        if result.warnings:
            remedy = "catch exceptions in observing hooks: a hook that raises is disabled for the rest of the run"
            expfw_bench.fail(f"a run warns: {'; '.join(result.warnings)}", remedy)

    def test_same_seed_gives_same_metrics(self, expfw_bench: Bench) -> None:
        """Two runs with the same seed log bit-identical metrics."""
        bench = expfw_bench
        all_points, (_, interrupted_points) = read_run_points(bench.run().folder), bench.interrupted_run
        same_points = {key: values for key, values in all_points.items() if key in interrupted_points}
        if differences := list(exact_comparison.compare_points(same_points, interrupted_points)):
            bench.fail(
                f"two runs with the same seed differ: {differences[0]} ({len(differences)} differences)",
                "draw random numbers from keras.random.SeedGenerator, tf.random.Generator, stateless operations, or "
                "NumPy's and Python's global generators, which a run seeds; never from the clock or the system",
            )

    def test_resume_is_bit_identical(self, expfw_bench: Bench) -> None:
        """A run that was interrupted and resumed from a checkpoint is bit-identical to an uninterrupted run."""
        bench = expfw_bench
        uninterrupted_folder, (folder, _) = bench.run().folder, bench.interrupted_run
        result, _ = bench.resumed_run
        differences = [
            *exact_comparison.compare_runs(uninterrupted_folder, folder).differences,
            *_compare_checkpoints(uninterrupted_folder, folder),
        ]
        if differences:
            more = f" (and {len(differences) - 1} more)" if differences[1:] else ""
            problem = f"a resumed run differs from the uninterrupted run: {differences[0]}{more}"
            bench.fail(problem, self.get_resume_remedy())
        if resume_warnings := [text for text in result.warnings if "after resuming" in text]:
            bench.fail(f"a resumed run warns: {resume_warnings[0]}", self.get_resume_remedy())

    def get_resume_remedy(self) -> str:
        """Returns advice for a plugin if a resumed run is not bit-identical."""
        return (
            "store all state that changes in training in tf.Variables and SeedGenerators that the model tracks; "
            "do not use plain Python attributes or op-level tf.random functions"
        )

    def test_works_in_a_trial_process(self, expfw_bench: Bench) -> None:
        """The plugin works in a trial process, forked from the fork server of a sweep, with the same losses."""
        folders = expfw_bench.run().folder, expfw_bench.run_in_trial_process()
        remedy = "do not depend on earlier work of the same process"
        self.check_same_losses(expfw_bench, *folders, "in a trial process", remedy)

    def check_same_losses(self, bench: Bench, first: Path, second: Path, context: str, remedy: str) -> None:
        """Fails if the losses of two runs differ by more than rounding."""
        expected, actual = read_run_points(first), read_run_points(second)
        for name, step in sorted(expected.keys() & actual.keys(), key=lambda key: key[1]):
            values = expected[name, step], actual[name, step]
            if name == "train/loss" and not np.allclose(*values, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                problem = f"{name} at step {step} is {values[1]}; expected {values[0]}"
                bench.fail(f"it computes different losses {context}: {problem}", remedy)

    def check_loss_decreases(self, bench: Bench, min_epochs: int, remedy: str) -> None:
        """Fails if the loss of the last epoch is not smaller than that of the first."""
        points = read_run_points(bench.run().folder)
        losses = [points[key][0] for key in sorted(points, key=lambda key: key[1]) if key[0] == "train/epoch_loss"]
        if not (np.isfinite(losses).all() and len(losses) >= min_epochs and losses[-1] < losses[0]):
            history = ", ".join(f"{loss:.4g}" for loss in losses) or "never logged"
            bench.fail(f"it does not decrease the loss: train/epoch_loss was {history}", remedy)

    def check_saved_predictions(self, bench: Bench, remedy: str) -> None:
        """Fails if the saved model does not predict the same as the trained model."""
        trained, saved = map(get_named_parts, bench.make_predictions())
        for name, output in trained.items():
            if not np.allclose(output, saved[name], rtol=1e-5, atol=1e-6):
                difference = np.abs(np.asarray(output) - saved[name]).max()
                bench.fail(f"the predictions of the saved and the trained model differ (by {difference:.3g})", remedy)


def _compare_checkpoints(expected_folder: Path, actual_folder: Path) -> Iterator[str]:
    """Yields the differences between the newest checkpoints of two runs."""
    expected, actual = (
        next(checkpoints.read_usable_checkpoints(folder, report=lambda line: None), None)
        for folder in (expected_folder, actual_folder)
    )
    if expected is None or actual is None:
        return
    yield from exact_comparison.compare_arrays(expected.model.arrays, actual.model.arrays)
    for name, state in expected.plugins.items():
        if actual.plugins.get(name) != state:
            yield f"the state of {name} is {actual.plugins.get(name)}; expected {state}"
