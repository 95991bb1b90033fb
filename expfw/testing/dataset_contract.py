"""Contract of a dataset."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from expfw.api.contracts import Dataset, Plugin
from expfw.api.data import Splits, map_parts
from expfw.errors import ExpfwError
from expfw.plugins.inspection import isolated_import
from expfw.testing.bench import Bench
from expfw.testing.failure import fail
from expfw.testing.run_contract import RunContract


class DatasetContract(RunContract):
    """The checks of a dataset.

    Attributes:
        model: name of a model that accepts the data; by default a model for classification or regression.
    """

    base: ClassVar[type[Plugin]] = Dataset
    plugin: ClassVar[type[Dataset]]
    model: ClassVar[str] = ""

    def make_run_overrides(self, bench: Bench) -> list[str]:
        other_overrides = [
            override for override in super().make_run_overrides(bench) if not override.lstrip("+").startswith("dataset")
        ]
        return [*bench.select_plugin(), *other_overrides, "train.steps=16"]

    def select_plugins(self, bench: Bench) -> list[str]:
        return [f"model={self.model or self._get_model_name(bench)}", "backend=tf-cpu", "callback=[checkpoint]"]

    def _get_model_name(self, bench: Bench) -> str:
        return "ols" if _load_data(bench, seed=0).spec.classes is None else "mlp_keras"

    def test_data_matches_its_spec(self, expfw_bench: Bench) -> None:
        """Samples are finite float32, classes int32, regression targets float32, with the shapes of the DataSpec."""
        bench = expfw_bench
        data = _load_data(bench, seed=0)
        if not isinstance(data, Splits):
            fail(
                f"{bench.plugin_label}: load returns {type(data).__name__}",
                "return expfw.Splits(spec, train, ...)",
            )
        problems = [
            problem for name, split in data.get_splits().items() for problem in _find_problems(name, split, data)
        ]
        if problems:
            fail(
                f"{bench.plugin_label}: {problems[0]}",
                "convert arrays with astype; fix or drop samples that are not finite",
            )

    def test_data_depends_only_on_the_seed(self, expfw_bench: Bench) -> None:
        """Loading twice with one seed returns equal data, independent of global generators; `uses_seed` is correct."""
        bench = expfw_bench
        data = _load_data(bench, seed=1)
        np.random.seed(99)
        random.seed(99)
        same_seed_data, other_seed_data = _load_data(bench, seed=1), _load_data(bench, seed=2)
        if not _are_equal(data, same_seed_data):
            fail(
                f"{bench.plugin_label}: loading twice with one seed returns different data",
                "create numpy.random.default_rng(seed) in load and draw only from it, and sort file lists",
            )
        if not self.plugin.uses_seed and not _are_equal(data, other_seed_data):
            fail(
                f"{bench.plugin_label} has uses_seed = False, but returns different data for another seed",
                "set uses_seed = True, or take the seed of a split from an option",
            )

    def test_identity_is_stable(self, expfw_bench: Bench) -> None:
        """identity() returns plain JSON values, the same in each call."""
        bench = expfw_bench
        dataset: Dataset = bench.make_plugin()
        first, second = dataset.identity(), bench.make_plugin().identity()
        try:
            json.dumps(dict(first))
        except (TypeError, ValueError) as error:
            fail(
                f"{bench.plugin_label}: identity() is not plain JSON ({error})",
                "return texts, numbers and lists of them",
            )
        if first != second:
            fail(
                f"{bench.plugin_label}: identity() returns first {dict(first)}, then {dict(second)}",
                "compute it only from options and files: paths, sizes, modification times",
            )

    def test_needs_no_framework(self, expfw_bench: Bench) -> None:
        """Loading imports neither TensorFlow nor another framework."""
        frameworks = isolated_import.probe_import(
            expfw_bench.entry, dataset_options=expfw_bench.get_frozen_options()
        ).heavy
        if frameworks:
            fail(
                f"{expfw_bench.plugin_label} imports {', '.join(frameworks)} to load data",
                "read and preprocess with NumPy: data is loaded in processes without a framework",
            )

    def test_preprocessing_has_an_inverse(self, expfw_bench: Bench) -> None:
        """The DataSpec's preprocessing maps raw samples to the splits, so that a saved model accepts raw samples."""
        bench = expfw_bench
        data = _load_data(bench, seed=0)
        x, spec = data.train.take(slice(4)).in_memory().x, data.spec
        preprocessing = spec.preprocessing
        if isinstance(x, dict) and not isinstance(preprocessing, dict):
            preprocessing = dict.fromkeys(x, preprocessing)
        try:
            raw = map_parts(lambda affine, part: affine.inverse(part), preprocessing, x)
            preprocessed = spec.preprocess(raw)
        except (ExpfwError, ValueError, TypeError) as error:
            fail(
                f"{bench.plugin_label}: the DataSpec's preprocessing does not fit the samples ({error})",
                "use the shapes of DataSpec",
            )
        for name, part in preprocessed.items() if isinstance(preprocessed, dict) else [("", preprocessed)]:
            if not np.allclose(part, x[name] if name else x, atol=1e-4, rtol=1e-4):
                fail(
                    f"{bench.plugin_label}: the DataSpec's preprocessing does not match the splits",
                    "pass the AffineScaling that load applies to DataSpec(preprocessing=...)",
                )

    def get_resume_remedy(self) -> str:
        return "compute the result of load only from the seed, the options and the files"


def _load_data(bench: Bench, seed: int) -> Splits:
    try:
        data: Splits = bench.make_plugin().load(seed)
    except ExpfwError as error:
        fail(
            f"{bench.plugin_label} does not load: {error}",
            "set `options`, or override make_options, to use existing data",
        )
    return data


def _find_problems(name: str, split: Any, data: Splits) -> Iterator[str]:
    targets = data.spec.targets()
    for part, array in split.in_memory().arrays().items():
        field, _, target_name = part.partition(".")
        classes = targets[target_name][0] if field == "y" else None
        expected_dtype = np.dtype(np.int32 if classes is not None else np.float32)
        if array.dtype != expected_dtype:
            yield f"{part} of the {name} split is {array.dtype}; expected {expected_dtype}"
        elif not np.isfinite(array).all():
            yield f"{part} of the {name} split has elements that are not finite"


def _are_equal(left: Splits, right: Splits) -> bool:
    def collect_arrays(data: Splits) -> dict[str, Any]:
        return {
            f"{name}.{part}": array
            for name, split in data.get_splits().items()
            for part, array in split.in_memory().arrays().items()
        }

    left_arrays, right_arrays = collect_arrays(left), collect_arrays(right)
    return left_arrays.keys() == right_arrays.keys() and all(
        np.array_equal(left_arrays[k], right_arrays[k], equal_nan=True) for k in left_arrays
    )
