"""Contract of a dataset."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from expfw.api.contracts import Dataset, Plugin
from expfw.api.data import Splits, get_named_parts, map_parts
from expfw.errors import ExpfwError
from expfw.plugins import inspection
from expfw.system.subprocess_call import call_in_subprocess
from expfw.testing.bench import Bench
from expfw.testing.contract import RunContract


class DatasetContract(RunContract):
    """The checks of a dataset.

    Attributes:
        model: name of a model that accepts the data; by default a model for classification or regression.
    """

    base: ClassVar[type[Plugin]] = Dataset
    plugin: ClassVar[type[Dataset]]
    model: ClassVar[str] = ""
    resume_remedy: ClassVar[str] = "compute the result of load only from the seed, the options and the files"

    def make_run_overrides(self, bench: Bench) -> list[str]:
        default_model = "ols" if _load_data(bench, seed=0).spec.classes is None else "mlp_keras"
        return [f"model={self.model or default_model}", "train.steps=16"]

    def test_data_matches_its_spec(self, expfw_bench: Bench) -> None:
        """Samples are finite float32, classes int32, regression targets float32, with the shapes of the DataSpec."""
        data = _load_data(expfw_bench, seed=0)
        if not isinstance(data, Splits):
            expfw_bench.fail(f"load returns {type(data).__name__}", "return expfw.Splits(spec, train, ...)")
        for part, array in _collect_arrays(data).items():
            split, field, target = (*part.split("."), "")[:3]
            is_class = field == "y" and data.spec.targets()[target][0] is not None
            expected_dtype = np.dtype(np.int32 if is_class else np.float32)
            name = f"{part.removeprefix(f'{split}.')} of the {split} split"
            if array.dtype != expected_dtype:
                expfw_bench.fail(f"{name} is {array.dtype}; expected {expected_dtype}", "convert it with astype")
            if not np.isfinite(array).all():
                expfw_bench.fail(f"{name} has elements that are not finite", "fix or drop these samples")

    def test_data_depends_only_on_the_seed(self, expfw_bench: Bench) -> None:
        """Loading twice with one seed returns equal data, independent of global generators; `uses_seed` is correct."""
        data = _load_data(expfw_bench, seed=1)
        np.random.seed(99)
        random.seed(99)
        same_seed_data, other_seed_data = _load_data(expfw_bench, seed=1), _load_data(expfw_bench, seed=2)
        if not _are_equal(data, same_seed_data):
            remedy = "create numpy.random.default_rng(seed) in load and draw only from it, and sort file lists"
            expfw_bench.fail("loading twice with one seed returns different data", remedy)
        if not self.plugin.uses_seed and not _are_equal(data, other_seed_data):
            remedy = "set uses_seed = True, or take the seed of a split from an option"
            expfw_bench.fail("it has uses_seed = False, but returns different data for another seed", remedy)

    def test_identity_is_stable(self, expfw_bench: Bench) -> None:
        """identity() returns plain JSON values, the same in each call."""
        first, second = (dict(expfw_bench.make_plugin().identity()) for _ in range(2))
        try:
            json.dumps(first)
        except (TypeError, ValueError) as error:
            expfw_bench.fail(f"identity() is not plain JSON ({error})", "return texts, numbers and lists of them")
        if first != second:
            remedy = "compute it only from options and files: paths, sizes, modification times"
            expfw_bench.fail(f"identity() returns first {first}, then {second}", remedy)

    def test_needs_no_framework(self, expfw_bench: Bench) -> None:
        """Loading imports neither TensorFlow nor another framework."""
        entry, options = asdict(expfw_bench.entry), expfw_bench.get_frozen_options()
        if frameworks := call_in_subprocess(inspection.find_frameworks_of_loading, entry, options):
            remedy = "read and preprocess with NumPy: data is loaded in processes without a framework"
            expfw_bench.fail(f"it imports {', '.join(frameworks)} to load data", remedy)

    def test_preprocessing_has_an_inverse(self, expfw_bench: Bench) -> None:
        """The DataSpec's preprocessing maps raw samples to the splits, so that a saved model accepts raw samples."""
        data = _load_data(expfw_bench, seed=0)
        x, spec = data.train.take(slice(4)).x, data.spec
        try:
            raw = map_parts(lambda part, scaling: scaling.inverse(part), x, spec.preprocessing)
            preprocessed = spec.preprocess(raw)
        except (ExpfwError, ValueError, TypeError) as error:
            problem = f"the DataSpec's preprocessing does not fit the samples ({error})"
            expfw_bench.fail(problem, "use the shapes of DataSpec")
        for name, part in get_named_parts(preprocessed).items():
            if not np.allclose(part, get_named_parts(x)[name], atol=1e-4, rtol=1e-4):
                remedy = "pass the AffineScaling that load applies to DataSpec(preprocessing=...)"
                expfw_bench.fail("the DataSpec's preprocessing does not match the splits", remedy)


def _load_data(bench: Bench, seed: int) -> Splits:
    try:
        data: Splits = bench.make_plugin().load(seed)
    except ExpfwError as error:
        bench.fail(f"it does not load: {error}", "set `options`, or override make_options, to use existing data")
    return data


def _are_equal(left: Splits, right: Splits) -> bool:
    left_arrays, right_arrays = _collect_arrays(left), _collect_arrays(right)
    return left_arrays.keys() == right_arrays.keys() and all(
        np.array_equal(left_arrays[k], right_arrays[k], equal_nan=True) for k in left_arrays
    )


def _collect_arrays(data: Splits) -> dict[str, Any]:
    """Returns the arrays of all splits, with keys such as `train.x` or `train.y.TARGET`."""
    return {
        f"{name}.{part}": array
        for name, split in data.get_splits().items()
        for part, array in split.in_memory().arrays().items()
    }
