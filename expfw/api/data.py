"""Data that a dataset plugin passes to model and backend: `Splits`, `Split`, `DataSpec`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from expfw.api.preprocessing import AffineScaling
from expfw.errors import DataError

if TYPE_CHECKING:
    from expfw.api.run_config import RunConfig

SPLITS = ("train", "validation", "test")
T = TypeVar("T")


def get_named_parts(value: Any) -> Mapping[str, Any]:
    """Returns the parts of a value by name; the name of a single part is empty."""
    return value if isinstance(value, Mapping) else {"": value}


def map_parts(function: Callable[..., T], value: Any, *others: Any) -> T | dict[str, T]:
    """Applies `function` to a value, or to each of its named parts with the parts of the same name in `others`.

    A value in `others` without parts applies to each part.
    """
    if not isinstance(value, Mapping):
        return function(value, *others)
    return {
        name: function(part, *(other[name] if isinstance(other, Mapping) else other for other in others))
        for name, part in value.items()
    }


@dataclass(frozen=True)
class DataSpec:
    """Shapes, classes and preprocessing of a dataset.

    If samples or targets have named parts (dictionaries in `Split`), the attributes are dictionaries with the same
    names.

    Attributes:
        input_shape: shape of one sample, a tuple without the batch axis.
        classes: number of classes, for int32 targets in `[0, classes)`; None for regression.
        output_shape: shape of one regression target, a tuple.
        preprocessing: `AffineScaling` from raw samples to model input.
        class_names: one name per class, or empty; only for a single target.
    """

    input_shape: Any
    classes: Any = None
    output_shape: Any = ()
    preprocessing: Any = field(default_factory=AffineScaling)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.class_names and len(self.class_names) != self.classes:
            raise DataError(
                f"DataSpec has {len(self.class_names)} class_names for {_format_class_count(self.classes)}; "
                "expected one per class"
            )

    def single_input(self, model: str) -> tuple[int, ...]:
        """Returns the shape of a sample, for models that have one input.

        Raises:
            DataError: if the samples have several parts.
        """
        if isinstance(self.input_shape, Mapping):
            inputs = ", ".join(self.input_shape)
            raise DataError(f"model={model} takes one input, but each sample has several: {inputs}")
        return tuple(self.input_shape)

    def targets(self) -> dict[str, tuple[int | None, tuple[int, ...]]]:
        """Returns the number of classes (or None) and the shape of each target, by name."""
        if not isinstance(self.classes, Mapping) and not isinstance(self.output_shape, Mapping):
            return {"": (self.classes, () if self.classes is not None else tuple(self.output_shape))}
        classes = self.classes if isinstance(self.classes, Mapping) else {}
        shapes = self.output_shape if isinstance(self.output_shape, Mapping) else {}
        return {
            name: (classes.get(name), () if classes.get(name) is not None else tuple(shapes.get(name, ())))
            for name in dict.fromkeys([*classes, *shapes])
        }

    def preprocess(self, raw: Any) -> Any:
        """Converts raw samples `(n, *input_shape)`, or a dictionary of them, to model input."""
        import numpy as np

        shape = self.input_shape
        if isinstance(shape, Mapping) and not (isinstance(raw, Mapping) and raw.keys() == shape.keys()):
            actual = f"have the keys {sorted(raw)}" if isinstance(raw, Mapping) else f"are of type {type(raw).__name__}"
            raise DataError(f"samples {actual}; expected a dictionary with the keys {sorted(shape)}")

        def preprocess_part(part_shape: tuple[int, ...], scaling: AffineScaling, samples: Any) -> np.ndarray:
            return scaling(np.asarray(samples).reshape((-1, *part_shape)))

        return map_parts(preprocess_part, shape, self.preprocessing, raw)


@dataclass(frozen=True)
class Split:
    """Samples with their targets.

    Attributes:
        x: preprocessed samples `(n, *input_shape)`, float32, as a NumPy array. For data that may not fit into memory,
            `Preprocessed` or any object with `shape`, `dtype` and a length that returns NumPy arrays when indexed. For
            several inputs, a dictionary of these by input name.
        y: targets: `(n,)` int32 for classes, `(n, *output_shape)` float32 for regression. For several outputs, a
            dictionary of these by output name.
        weight: weight of each sample in the loss, `(n,)` float32; None for equal weights.
    """

    x: Any
    y: Any
    weight: Any = None

    def __post_init__(self) -> None:
        for name, part in self.arrays().items():
            if not hasattr(part, "shape"):
                raise DataError(f"Split.{name} is of type {type(part).__name__}; expected a NumPy array")

    def __len__(self) -> int:
        return len(next(iter(get_named_parts(self.x).values())))

    @property
    def parts(self) -> tuple[Any, ...]:
        """`(x, y)`, or `(x, y, weight)` if the samples have weights."""
        return (self.x, self.y) if self.weight is None else (self.x, self.y, self.weight)

    def arrays(self) -> dict[str, Any]:
        """Returns all arrays by name: `x`, `y`, `weight`, or `x.left` for a named part."""
        return {
            f"{name}.{part}" if part else name: array
            for name, value in zip(("x", "y", "weight"), self.parts, strict=False)
            for part, array in get_named_parts(value).items()
        }

    def nbytes(self) -> int:
        """Returns the size of the preprocessed samples and the targets in bytes."""
        return sum(math.prod(array.shape) * array.dtype.itemsize for array in self.arrays().values())

    def in_memory(self) -> Split:
        """Returns the split with all samples as NumPy arrays."""
        return self.take(slice(None))

    def take(self, rows: Any) -> Split:
        """Returns the samples in `rows`, a slice or an array of indices."""
        return Split(*(map_parts(lambda array: array[rows], part) for part in self.parts))


@dataclass(frozen=True)
class Splits:
    """A loaded dataset.

    Attributes:
        spec: shapes, classes and preprocessing.
        train: training data.
        validation: validation data, or None.
        test: test data, or None.
    """

    spec: DataSpec
    train: Split
    validation: Split | None = None
    test: Split | None = None

    def __post_init__(self) -> None:
        for name, split in self.get_splits().items():
            self._check_split(name, split)

    def get_splits(self) -> dict[str, Split]:
        """Returns the available splits by name."""
        return {name: s for name in SPLITS if (s := getattr(self, name)) is not None}

    def take(self, rows: Any) -> Splits:
        """Returns the samples in `rows` of each split, as NumPy arrays."""
        return Splits(self.spec, **{name: split.take(rows) for name, split in self.get_splits().items()})

    def _check_split(self, name: str, split: Split) -> None:
        if len(split) == 0:
            raise DataError(
                f"the {name} split is empty; expected at least one sample, or None if there is no such split"
            )
        for part, array in split.arrays().items():
            if len(array) != len(split):
                label = {"y": "targets"}.get(part, part)
                raise DataError(
                    f"the {name} split has {len(split)} samples but {len(array)} {label}; expected equal numbers"
                )
        targets = self.spec.targets()
        sample_shapes, target_shapes = map_parts(tuple, self.spec.input_shape), {k: v[1] for k, v in targets.items()}
        expected_shapes = (sample_shapes, target_shapes.get("", target_shapes))
        for subject, value, expected in zip(("samples", "targets"), (split.x, split.y), expected_shapes, strict=True):
            actual = map_parts(lambda array: tuple(array.shape[1:]), value)
            if actual != expected:
                raise DataError(
                    f"{subject} of the {name} split have shape {actual}; expected {expected}, as in DataSpec"
                )
        for part, (classes, _) in targets.items():
            y, subject = get_named_parts(split.y)[part], f"targets {part}{' ' if part else ''}of the {name} split"
            if classes is not None and y.dtype.kind not in "iu":
                raise DataError(
                    f"{subject} are of type {y.dtype}; expected integers, 0 to {classes - 1} for "
                    f"{_format_class_count(classes)}; convert them with y.astype('int32'), or for regression omit "
                    "classes in DataSpec"
                )
            if classes is not None and not (y.min() >= 0 and y.max() < classes):
                raise DataError(
                    f"{subject} range from {y.min()} to {y.max()}; expected 0 to {classes - 1} for "
                    f"{_format_class_count(classes)}"
                )


def check_loaded_data(data: Any, config: RunConfig) -> Splits:
    """Checks the result of a dataset plugin and limits it to `train.limit_batches`.

    Raises:
        DataError: if the result is not `Splits`.
    """
    name = config.dataset["plugin"]
    if not isinstance(data, Splits):
        raise DataError(f"dataset plugin {name!r} returned {type(data).__name__}; expected expfw.Splits")
    limit = config.train.limit_batches
    return data if limit is None else data.take(slice(limit * config.train.batch_size))


def _format_class_count(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"
