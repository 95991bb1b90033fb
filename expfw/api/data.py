"""Data as it crosses from a dataset plugin to a model plugin and a backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from expfw.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from expfw.api.run_config import RunConfig


SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class AffineScaling:
    """Preprocessing `x * scale + offset`, elementwise; kept with a saved model so that it predicts from raw input.

    `scale` and `offset` are numbers, or arrays that broadcast to one sample.
    """

    scale: Any = 1.0
    offset: Any = 0.0

    def __call__(self, raw: Any) -> np.ndarray:
        """Raw samples (any real dtype, shape `(n, ...)`) to float32 of the same shape."""
        import numpy as np

        scaled = np.asarray(raw, np.float32) * np.asarray(self.scale, np.float32)
        scaled += np.asarray(self.offset, np.float32)
        return scaled

    def inverse(self, preprocessed: Any) -> np.ndarray:
        """Raw samples that are preprocessed to these, to the precision of float32; 0 where any value would be."""
        import numpy as np

        scale, offset = np.asarray(self.scale, np.float64), np.asarray(self.offset, np.float64)
        difference = np.asarray(preprocessed, np.float64) - offset
        raw = np.divide(difference, scale, out=np.zeros_like(difference), where=scale != 0)
        return raw.astype(np.float32)


T = TypeVar("T")


def get_named_parts(value: Any) -> Mapping[str, Any]:
    """The parts of something that may have several, by name; a single one has the empty name."""
    return value if isinstance(value, Mapping) else {"": value}


def map_parts(function: Callable[..., T], value: Any, *others: Any) -> T | dict[str, T]:
    """`function` of the one thing, or of each named part, together with the parts of the same name in `others`."""
    if not isinstance(value, Mapping):
        return function(value, *others)
    return {name: function(part, *(other[name] for other in others)) for name, part in value.items()}


class Preprocessed:
    """Samples that are preprocessed when they are asked for; the raw ones stay where they are, in a mapped file say.

    Indexing gives NumPy arrays. A dataset returns it for data that may be larger than memory.

    Args:
        raw: raw samples, anything that NumPy can index, `(n, *shape)`.
        preprocessing: raw sample to model input.
        rows: which of them, in which order; by default all.
    """

    def __init__(self, raw: Any, preprocessing: AffineScaling, rows: np.ndarray | None = None) -> None:
        import numpy as np

        self.raw, self.preprocessing, self.rows = raw, preprocessing, rows
        self.shape = (len(raw) if rows is None else len(rows), *raw.shape[1:])
        self.dtype, self.ndim = np.dtype(np.float32), len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, tuple) or rows is Ellipsis:
            return self[:][rows]
        return self.preprocessing(self.raw[rows if self.rows is None else self.rows[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


@dataclass(frozen=True)
class DataSpec:
    """What a model must know about the data before it sees any.

    Where samples or targets have several named parts (dictionaries in `Split`), the same names lead to what belongs to
    each: dictionaries of shapes, of numbers of classes, of preprocessings.

    Attributes:
        input_shape: shape of one sample, a tuple without the batch axis.
        classes: number of classes, targets being int32 in `[0, classes)`; None for regression.
        output_shape: shape of one target of a regression, a tuple.
        preprocessing: raw sample to model input, an `AffineScaling`.
        class_names: a name for each class, or empty; for a single target.
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
                "expected one each"
            )

    def single_input(self, model: str) -> tuple[int, ...]:
        """The shape of a sample, for models that have one input.

        Raises:
            DataError: the samples have several parts.
        """
        if isinstance(self.input_shape, Mapping):
            raise DataError(f"model={model} takes one input; samples of these data have {', '.join(self.input_shape)}")
        return tuple(self.input_shape)

    def targets(self) -> dict[str, tuple[int | None, tuple[int, ...]]]:
        """By name, what each target is: its number of classes, or None, and the shape of one."""
        if not isinstance(self.classes, Mapping) and not isinstance(self.output_shape, Mapping):
            return {"": (self.classes, () if self.classes is not None else tuple(self.output_shape))}
        classes = self.classes if isinstance(self.classes, Mapping) else {}
        shapes = self.output_shape if isinstance(self.output_shape, Mapping) else {}
        return {
            name: (classes.get(name), () if classes.get(name) is not None else tuple(shapes.get(name, ())))
            for name in dict.fromkeys([*classes, *shapes])
        }

    def preprocess(self, raw: Any) -> Any:
        """Raw samples `(n, *input_shape)`, or a dictionary of such, to model input."""
        import numpy as np

        def preprocess_part(shape: tuple[int, ...], preprocessing: AffineScaling, samples: Any) -> np.ndarray:
            return preprocessing(np.asarray(samples).reshape((-1, *shape)))

        preprocessing = self.preprocessing
        if isinstance(self.input_shape, Mapping):
            if not isinstance(raw, Mapping) or raw.keys() != self.input_shape.keys():
                actual = sorted(raw) if isinstance(raw, Mapping) else type(raw).__name__
                raise DataError(f"samples are {actual}; expected a dictionary with {sorted(self.input_shape)}")
            if not isinstance(preprocessing, Mapping):
                preprocessing = dict.fromkeys(self.input_shape, preprocessing)
        return map_parts(preprocess_part, self.input_shape, preprocessing, raw)


@dataclass(frozen=True)
class Split:
    """Samples and targets that belong together.

    Attributes:
        x: preprocessed samples, `(n, *input_shape)`, float32: a NumPy array or, where they may not fit into memory,
            `Preprocessed` or whatever else has `shape`, `dtype`, a length, and gives NumPy arrays when indexed; or a
            dictionary of such, by the names of the model's inputs.
        y: targets, `(n,)` int32 for classes, `(n, *output_shape)` float32 for regression; or a dictionary of such, by
            the names of the model's outputs.
        weight: of each sample in the loss, `(n,)` float32; None where all count the same.
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
        """`(x, y)`, or `(x, y, weight)` where there are weights."""
        return (self.x, self.y) if self.weight is None else (self.x, self.y, self.weight)

    def arrays(self) -> dict[str, Any]:
        """All arrays, under names like `x`, `y`, `weight`, or `x.left` for a named part."""
        named_fields = zip(("x", "y", "weight"), self.parts, strict=False)
        return {
            f"{name}.{part}" if part else name: array
            for name, value in named_fields
            for part, array in get_named_parts(value).items()
        }

    def nbytes(self) -> int:
        """Bytes of all samples and targets, preprocessed."""
        return sum(math.prod(array.shape) * array.dtype.itemsize for array in self.arrays().values())

    def in_memory(self) -> Split:
        """The same with NumPy arrays for samples that are made on demand."""
        import numpy as np

        def load_array(array: Any) -> Any:
            return array if isinstance(array, np.ndarray) else array[:]

        return Split(*(map_parts(load_array, part) for part in self.parts))

    def take(self, rows: Any) -> Split:
        """The samples in `rows`: a slice, or an array of numbers."""
        return Split(*(map_parts(lambda array: array[rows], part) for part in self.parts))


@dataclass(frozen=True)
class Splits:
    """A dataset, loaded: training data, and validation and test data where the dataset has them."""

    spec: DataSpec
    train: Split
    validation: Split | None = None
    test: Split | None = None

    def __post_init__(self) -> None:
        for name, split in self.get_splits().items():
            self._check_split(name, split)

    def get_splits(self) -> dict[str, Split]:
        """The splits that there are, by name."""
        return {name: s for name in SPLITS if (s := getattr(self, name)) is not None}

    def limit_samples(self, samples: int) -> Splits:
        """At most `samples` of each split."""
        return Splits(self.spec, **{name: split.take(slice(samples)) for name, split in self.get_splits().items()})

    def _check_split(self, name: str, split: Split) -> None:
        if len(split) == 0:
            raise DataError(
                f"the {name} split is empty; expected at least one sample, or None where there is no such split"
            )
        for part, array in split.arrays().items():
            if len(array) != len(split):
                label = {"y": "targets"}.get(part, part)
                raise DataError(
                    f"the {name} split has {len(split)} samples but {len(array)} {label}; expected as many of each"
                )
        expected_shapes = {part: tuple(shape) for part, shape in get_named_parts(self.spec.input_shape).items()}
        actual_shapes = {part: tuple(array.shape[1:]) for part, array in get_named_parts(split.x).items()}
        if actual_shapes != expected_shapes:
            raise DataError(
                f"samples of the {name} split have shape {_format_shapes(actual_shapes)}; DataSpec says "
                f"{_format_shapes(expected_shapes)}"
            )
        self._check_targets(name, split)

    def _check_targets(self, name: str, split: Split) -> None:
        targets = self.spec.targets()
        actual_shapes = {part: tuple(array.shape[1:]) for part, array in get_named_parts(split.y).items()}
        expected_shapes = {part: shape for part, (_, shape) in targets.items()}
        if actual_shapes != expected_shapes:
            raise DataError(
                f"targets of the {name} split have shape {_format_shapes(actual_shapes)}; DataSpec says "
                f"{_format_shapes(expected_shapes)}"
            )
        for part, (classes, _) in targets.items():
            y, subject = get_named_parts(split.y)[part], f"targets {part}{' ' if part else ''}of the {name} split"
            if classes is not None and y.dtype.kind not in "iu":
                raise DataError(
                    f"{subject} are of type {y.dtype}; expected integers, 0 to {classes - 1} for "
                    f"{_format_class_count(classes)}, as "
                    "y.astype('int32') makes them; where they are values, leave classes out of DataSpec"
                )
            if classes is not None and not (y.min() >= 0 and y.max() < classes):
                raise DataError(
                    f"{subject} run from {y.min()} to {y.max()}; expected 0 to {classes - 1} for "
                    f"{_format_class_count(classes)}"
                )


def check_loaded_data(data: Any, config: RunConfig) -> Splits:
    """What a dataset plugin returned, at most as much of it as `train.limit_batches` says.

    Raises:
        DataError: it is something else.
    """
    name = config.dataset["plugin"]
    if not isinstance(data, Splits):
        raise DataError(f"dataset plugin {name!r} returned {type(data).__name__}; expected expfw.Splits")
    limit = config.train.limit_batches
    return data if limit is None else data.limit_samples(limit * config.train.batch_size)


def _format_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Any:
    return shapes[""] if list(shapes) == [""] else dict(shapes)


def _format_class_count(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"
