"""Contracts of all plugins and of all plugins that train: base classes of the contracts for each kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from expfw.api import checkpoints, option_schema
from expfw.api.contracts import Plugin
from expfw.api.data import get_named_parts
from expfw.api.result import FINISHED
from expfw.api.run_config import to_plain
from expfw.errors import ExpfwError
from expfw.plugins import inspection
from expfw.plugins.validation import Problem
from expfw.runs import exact_comparison
from expfw.testing.bench import Bench, BenchSettings, read_run_points

_BAD_VALUES: dict[str, list[Any]] = {
    "int": [-1],
    "float": [-1.0, float("nan")],
    "str": ["no such value"],
    "list of int": [[-1]],
    "list of float": [[-1.0]],
    "list of str": [["no such value"]],
}
"""Bad values of each type; expfw itself rejects values of the wrong type and unknown choices."""
TOLERANCE = 1e-4
"""Relative and absolute tolerance for losses of different processes."""


class PluginContract(BenchSettings):
    """The checks of plugins of all kinds.

    Attributes:
        base: base class of the plugins; set by each contract.
        plugin: class under test. It does not need an entry point and may be defined in the test file.
        options: options for the checks, such as `{"units": 8}`, with dotted names for nested ones; choose small values.
    """

    base: ClassVar[type[Plugin]] = Plugin
    options: ClassVar[Mapping[str, Any]] = {}

    def make_options(self, folder: Path) -> Mapping[str, Any]:
        """Returns the options for the checks. Override it if options name files, and write the files to `folder`."""
        return self.options

    def test_class(self, expfw_bench: Bench) -> None:
        """The class can be imported, extends its kind, has a docstring and can be created with (config, name)."""
        _check_statically(expfw_bench, "class")

    def test_options(self, expfw_bench: Bench) -> None:
        """Every option has a supported type, a default of that type and a help text."""
        _check_statically(expfw_bench, "options")

    def test_methods(self, expfw_bench: Bench) -> None:
        """The required methods exist and have the arguments of the contract."""
        _check_statically(expfw_bench, "methods")

    def test_hooks(self, expfw_bench: Bench) -> None:
        """The hooks exist, are marked, have valid arguments and are not deprecated."""
        _check_statically(expfw_bench, "hooks")

    def test_import(self, expfw_bench: Bench) -> None:
        """The import takes less than half a second, imports no framework and prints nothing."""
        (report,) = inspection.inspect_all([expfw_bench.entry])
        problems = [Problem(**values) for values in report["problems"]]
        expfw_bench.fail_if_any(problem for problem in problems if problem.check == "import")

    def test_options_round_trip_through_hydra(self, expfw_bench: Bench) -> None:
        """Options keep type and value through Hydra, and when they are recorded and read again."""
        bench, config_class = expfw_bench, self.plugin.Config
        node = bench.get_frozen_options()
        defaults = {o.name: o.default for o in option_schema.list_options(config_class) if not o.required}
        partly_set_names = {name.partition(".")[0] for name in bench.options if "." in name}
        for name, value in {**defaults, **bench.options}.items():
            if "." not in name and name not in partly_set_names and node[name] != to_plain(value):
                bench.fail(
                    f"option {name!r} is {to_plain(value)!r} in Config and {node[name]!r} after Hydra composed it",
                    "check values in Config.__post_init__ without changing them",
                )
        recorded_node = json.loads(json.dumps(node))
        read_back = to_plain(option_schema.build_instance(config_class, recorded_node, bench.options_key))
        for name, value in read_back.items():
            if value != node[name]:
                bench.fail(
                    f"option {name!r} is {node[name]!r}, but {value!r} after it was recorded and read again",
                    "check values in Config.__post_init__ without changing them, and compute derived values elsewhere",
                )

    def test_bad_options_raise_a_one_line_error(self, expfw_bench: Bench) -> None:
        """A bad value either works or raises a one-line error that names the option."""
        bench = expfw_bench
        options = [o for o in option_schema.list_options(self.plugin.Config) if "." not in o.name]
        bad_values = [
            (o.name, value) for o in options for value in _BAD_VALUES.get(o.type.removesuffix(" or null"), [])
        ]
        problems = []
        for name, value in bad_values:
            override = f"{bench.options_key}.{name}={value!r}"
            try:
                bench.try_options({name: value})
            except ExpfwError as error:
                if name not in str(error) and str(value) not in str(error):
                    problems.append(f"{override} is rejected, but the error does not name the option: {error}")
            except Exception as error:
                problems.append(f"{override} raises {type(error).__name__}: {error}".splitlines()[0])
        bench.fail_if_any(
            problems,
            "declare bounds (expfw.option(32, at_least=1)), raise ValueError in Config.__post_init__, or raise "
            "expfw.ConfigError when the value is used; name the option",
        )


class RunContract(PluginContract):
    """The checks of a plugin in real runs, on small data with four steps of eight samples per epoch.

    Attributes:
        data: specification of the small data; set it to data that a model accepts.
        epochs: number of epochs of each run.
        overrides: additional overrides of all runs, as on the command line.
    """

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
            bench.fail(problem, self.resume_remedy)
        if resume_warnings := [text for text in result.warnings if "after resuming" in text]:
            bench.fail(f"a resumed run warns: {resume_warnings[0]}", self.resume_remedy)

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


def _check_statically(bench: Bench, check: str) -> None:
    bench.fail_if_any(problem for problem in inspection.find_problems(bench.entry) if problem.check == check)


def _compare_checkpoints(*folders: Path) -> Iterator[str]:
    """Yields the differences between the newest checkpoints of two runs."""
    expected, actual = (next(checkpoints.read_usable_checkpoints(folder, print), None) for folder in folders)
    if expected is None or actual is None:
        return
    yield from exact_comparison.compare_arrays(expected.model.arrays, actual.model.arrays)
    for name, state in expected.plugins.items():
        if actual.plugins.get(name) != state:
            yield f"the state of {name} is {actual.plugins.get(name)}; expected {state}"
