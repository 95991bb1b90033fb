"""What every plugin promises that takes part in a training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np

from expfw.api import checkpoints
from expfw.api.data import DataSpec
from expfw.api.run import FINISHED, Result
from expfw.runs import comparison
from expfw.testing.bench import Bench, Points, points_in
from expfw.testing.contract import PluginContract
from expfw.testing.failing import fail
from expfw.testing.small_data import as_text
from expfw.testing.words import override

EVERY, LEFT_AT = 5, 11
"""Steps from one checkpoint to the next, and at which step a run is interrupted: in the middle of an epoch."""
CLOSE = 1e-4
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

    def choices(self, bench: Bench) -> list[str]:
        """The overrides of a run with the plugin in it."""
        return [
            "dataset=small_data",
            override("dataset.spec", as_text(self.data)),
            *self.chosen(bench),
            f"train.epochs={self.epochs}",
            *("train.batch_size=8", "train.log_every=1", "seed=3"),
            f"callback.checkpoint.every.steps={EVERY}",
            *self.overrides,
        ]

    def chosen(self, bench: Bench) -> list[str]:
        """The overrides that choose model, backend and callbacks; later ones win."""
        return ["model=mlp_keras", "callback=[checkpoint]", *bench.alone()]

    def test_trains(self, expfw_bench: Bench) -> None:
        """A run with it comes to its end, without a warning."""
        result = expfw_bench.run()
        if result.status != FINISHED:
            fail(
                f"a run with {expfw_bench.who} ended as {result.status} ({result.error or 'it says no reason'})",
                f"see {result.folder}",
            )
        if result.warnings:
            fail(
                f"a run with {expfw_bench.who} warns: {'; '.join(result.warnings)}",
                "an observing hook that raises is off for the rest of a run: catch what you can mend",
            )

    def test_same_seed_same_numbers(self, expfw_bench: Bench) -> None:
        """With the same seed, every logged number is the same to the bit."""
        bench = expfw_bench
        whole, (_, part) = points_in(bench.run().folder), bench.interrupted(LEFT_AT)
        lines = [_difference(key, whole.get(key), part[key]) for key in sorted(part, key=_step)]
        differing = [line for line in lines if line]
        if differing:
            fail(
                f"two runs with {bench.who} and the same seed differ: {differing[0]} ({len(differing)} in all)",
                "take randomness from keras.random.SeedGenerator, tf.random.Generator, stateless operations, or "
                "NumPy's and Python's global generators, which a run seeds; never from the clock or the system",
            )

    def test_goes_on_exactly(self, expfw_bench: Bench) -> None:
        """A run that was interrupted and goes on from a checkpoint is the run that never was, to the bit."""
        bench = expfw_bench
        whole, (folder, _) = bench.run().folder, bench.interrupted(LEFT_AT)
        result, _ = bench.go_on(folder)
        differences = [*comparison.compare(whole, folder).differences, *_other_state(whole, folder)]
        if differences:
            first, more = differences[0], len(differences) - 1
            fail(
                f"a run with {bench.who} that goes on is not the run that was never interrupted: {first}"
                + (f" (and {more} more)" if more else ""),
                self.remedy_for_going_on(),
            )
        if trouble := [text for text in result.warnings if "going on" in text]:
            fail(f"a run with {bench.who} that goes on warns: {trouble[0]}", self.remedy_for_going_on())

    def remedy_for_going_on(self) -> str:
        """What to do where it does not go on exactly."""
        return (
            "keep all that changes while training where a checkpoint finds it: in tf.Variables and SeedGenerators that "
            "the model tracks; nothing in plain Python attributes, nothing drawn by op-level tf.random functions"
        )

    def test_works_in_a_trial(self, expfw_bench: Bench) -> None:
        """It works in a process of its own, forked from the warm server of a sweep, and gives the same numbers."""
        bench = expfw_bench
        whole, there = points_in(bench.run().folder), points_in(bench.trial())
        remedy = "let nothing depend on what a process did before"
        self.compare(bench, whole, there, "in the process of a trial", remedy)

    def compare(self, bench: Bench, whole: Points, other: Points, where: str, remedy: str) -> None:
        """Fails where the losses of two runs are further apart than rounding explains."""
        for key in sorted(whole, key=_step):
            if key[0] != "train/loss" or key not in other:
                continue
            if not np.allclose(whole[key], other[key], rtol=CLOSE, atol=CLOSE, equal_nan=True):
                fail(f"{bench.who} gives other numbers {where}: {_difference(key, whole[key], other[key])}", remedy)


def losses_of(result: Result, name: str = "train/epoch_loss") -> list[float]:
    """The values of a metric, in the order of the steps."""
    found = points_in(result.folder)
    return [found[key][0] for key in sorted(found, key=_step) if key[0] == name]


def _other_state(one: Path, other: Path) -> Iterable[str]:
    """In what the newest checkpoints of two runs differ."""
    first, second = (next(checkpoints.good(folder, report=_say_nothing), None) for folder in (one, other))
    if first is None or second is None:
        return
    yield from comparison.other_arrays(first.model.arrays, second.model.arrays)
    for name, state in first.plugins.items():
        if second.plugins.get(name) != state:
            yield f"the state of {name} is {second.plugins.get(name)}, was {state}"


def _say_nothing(line: str) -> None:
    """A damaged checkpoint is seen by who needs it."""


def _step(key: tuple[str, int]) -> tuple[int, str]:
    return key[1], key[0]


def _difference(key: tuple[str, int], one: list[float] | None, other: list[float]) -> str:
    same = one is not None and np.array_equal(one, other, equal_nan=True)
    return "" if same else f"{key[0]} at step {key[1]} is {one} and {other}"
