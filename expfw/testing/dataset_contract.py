"""What a dataset promises."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from expfw.api.contracts import Dataset, Plugin
from expfw.api.data import Splits, each
from expfw.errors import ExpfwError
from expfw.plugins.inspection import isolated_import
from expfw.testing.bench import Bench
from expfw.testing.failing import fail
from expfw.testing.run_contract import RunContract


class DatasetContract(RunContract):
    """The checks of a dataset.

    Attributes:
        model: the name of a model that takes such data; by default one for classes or for values.
    """

    base: ClassVar[type[Plugin]] = Dataset
    plugin: ClassVar[type[Dataset]]
    model: ClassVar[str] = ""

    def choices(self, bench: Bench) -> list[str]:
        others = [word for word in super().choices(bench) if not word.lstrip("+").startswith("dataset")]
        return [*bench.alone(), *others, "train.steps=16"]

    def chosen(self, bench: Bench) -> list[str]:
        return [f"model={self.model or self._model(bench)}", "backend=tf-cpu", "callback=[checkpoint]"]

    def _model(self, bench: Bench) -> str:
        return "ols" if _load(bench, seed=0).spec.classes is None else "mlp_keras"

    def test_load_gives_what_it_declares(self, expfw_bench: Bench) -> None:
        """Samples are finite float32, classes int32, values float32, in the shapes of the DataSpec."""
        bench = expfw_bench
        data = _load(bench, seed=0)
        if not isinstance(data, Splits):
            fail(f"{bench.who}: load returns {type(data).__name__}", "let it return expfw.Splits(spec, train, ...)")
        problems = [problem for name, split in data.present().items() for problem in _problems(name, split, data)]
        if problems:
            fail(f"{bench.who}: {problems[0]}", "convert with astype; mend or leave out samples that are no numbers")

    def test_the_seed_alone_decides(self, expfw_bench: Bench) -> None:
        """Loading twice with one seed gives the same data, whatever was drawn meanwhile; `uses_seed` is the truth."""
        bench = expfw_bench
        one = _load(bench, seed=1)
        np.random.seed(99)
        random.seed(99)
        again, other = _load(bench, seed=1), _load(bench, seed=2)
        if not _same(one, again):
            fail(
                f"{bench.who}: loading twice with one seed gives other data",
                "draw from numpy.random.default_rng(seed) made in load, and sort what the file system lists",
            )
        if not self.plugin.uses_seed and not _same(one, other):
            fail(
                f"{bench.who} has uses_seed = False, and gives other data for another seed",
                "set uses_seed = True, or take the seed of a split from an option",
            )

    def test_identity_tells_these_data(self, expfw_bench: Bench) -> None:
        """identity() is plain JSON and the same each time: it is asked before every run."""
        bench = expfw_bench
        dataset: Dataset = bench.make()
        first, second = dataset.identity(), bench.make().identity()
        try:
            json.dumps(dict(first))
        except (TypeError, ValueError) as error:
            fail(f"{bench.who}: identity() is no plain JSON ({error})", "return texts, numbers and lists of these")
        if first != second:
            fail(
                f"{bench.who}: identity() is {dict(first)}, and then {dict(second)}",
                "let it depend on options and files alone: paths, sizes, times of change",
            )

    def test_needs_no_framework(self, expfw_bench: Bench) -> None:
        """Loading imports neither TensorFlow nor another framework."""
        brought = isolated_import.probe(expfw_bench.found, load_with=expfw_bench.node()).heavy
        if brought:
            fail(
                f"{expfw_bench.who} imports {', '.join(brought)} to load data",
                "read and preprocess with NumPy: data are loaded in processes that have no framework",
            )

    def test_preprocessing_has_an_inverse(self, expfw_bench: Bench) -> None:
        """Preprocessing raw samples gives what the splits hold, so that a saved model takes raw samples."""
        bench = expfw_bench
        data = _load(bench, seed=0)
        x, spec = data.train.take(slice(4)).in_memory().x, data.spec
        preprocessing = spec.preprocessing
        if isinstance(x, dict) and not isinstance(preprocessing, dict):
            preprocessing = dict.fromkeys(x, preprocessing)
        try:
            raw = each(lambda affine, part: affine.inverse(part), preprocessing, x)
            again = spec.preprocess(raw)
        except (ExpfwError, ValueError, TypeError) as error:
            fail(f"{bench.who}: the DataSpec's preprocessing does not fit ({error})", "give its shapes to DataSpec")
        for name, part in again.items() if isinstance(again, dict) else [("", again)]:
            if not np.allclose(part, x[name] if name else x, atol=1e-4, rtol=1e-4):
                fail(
                    f"{bench.who}: the DataSpec's preprocessing does not give what the splits hold",
                    "put the Affine that load applied into DataSpec(preprocessing=...)",
                )

    def remedy_for_going_on(self) -> str:
        return "let load depend on the seed, the options and the files alone"


def _load(bench: Bench, seed: int) -> Splits:
    try:
        data: Splits = bench.make().load(seed)
    except ExpfwError as error:
        fail(f"{bench.who} does not load: {error}", "set `options`, or override make_options, to data that are there")
    return data


def _problems(name: str, split: Any, data: Splits) -> Iterator[str]:
    targets = data.spec.targets()
    for part, array in split.in_memory().arrays().items():
        field, _, inner = part.partition(".")
        classes = targets[inner][0] if field == "y" else None
        wanted = np.dtype(np.int32 if classes is not None else np.float32)
        if array.dtype != wanted:
            yield f"{part} of the {name} split is {array.dtype}; expected {wanted}"
        elif not np.isfinite(array).all():
            yield f"{part} of the {name} split has elements that are no finite numbers"


def _same(one: Splits, other: Splits) -> bool:
    def arrays(data: Splits) -> dict[str, Any]:
        return {
            f"{name}.{part}": array
            for name, split in data.present().items()
            for part, array in split.in_memory().arrays().items()
        }

    first, second = arrays(one), arrays(other)
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k], equal_nan=True) for k in first)
