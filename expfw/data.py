"""Data as it crosses from a dataset plugin to a model plugin and a backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from expfw.errors import DataError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Affine:
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


@dataclass(frozen=True)
class DataSpec:
    """What a model must know about the data before it sees any.

    Attributes:
        input_shape: shape of one sample, without the batch axis.
        classes: number of classes, targets being int32 in `[0, classes)`; None for regression.
        output_shape: shape of one target of a regression.
        preprocessing: raw sample to model input.
        class_names: a name for each class, or empty.
    """

    input_shape: tuple[int, ...]
    classes: int | None = None
    output_shape: tuple[int, ...] = ()
    preprocessing: Affine = field(default_factory=Affine)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.class_names and len(self.class_names) != self.classes:
            raise DataError(
                f"DataSpec has {len(self.class_names)} class_names for {self.classes} classes; expected one each"
            )


@dataclass(frozen=True)
class Split:
    """Samples and targets that belong together.

    Attributes:
        x: preprocessed samples, `(n, *input_shape)`, float32.
        y: targets, `(n,)` int32 for classes, `(n, *output_shape)` float32 for regression.
    """

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            if not hasattr(getattr(self, name), "shape"):
                what = type(getattr(self, name)).__name__
                raise DataError(f"Split.{name} is of type {what}; expected a NumPy array")

    def __len__(self) -> int:
        return len(self.x)

    def first(self, count: int) -> Split:
        """The first `count` samples, as views."""
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Splits:
    """A dataset, loaded: training data, and validation and test data where the dataset has them."""

    spec: DataSpec
    train: Split
    validation: Split | None = None
    test: Split | None = None

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            split = getattr(self, name)
            if split is not None:
                self._check(name, split)

    def _check(self, name: str, split: Split) -> None:
        if len(split.x) == 0:
            raise DataError(
                f"the {name} split is empty; expected at least one sample, or None where there is no such split"
            )
        if len(split.x) != len(split.y):
            raise DataError(
                f"the {name} split has {len(split.x)} samples but {len(split.y)} targets; expected as many of each"
            )
        if tuple(split.x.shape[1:]) != tuple(self.spec.input_shape):
            raise DataError(
                f"samples of the {name} split have shape {split.x.shape[1:]}; DataSpec says {self.spec.input_shape}"
            )
        target = () if self.spec.classes is not None else tuple(self.spec.output_shape)
        if tuple(split.y.shape[1:]) != target:
            raise DataError(f"targets of the {name} split have shape {split.y.shape[1:]}; DataSpec says {target}")
        if self.spec.classes is not None and not (split.y.min() >= 0 and split.y.max() < self.spec.classes):
            raise DataError(
                f"targets of the {name} split run from {split.y.min()} to {split.y.max()}; "
                f"expected 0 to {self.spec.classes - 1} for {self.spec.classes} classes"
            )

    def limited(self, samples: int) -> Splits:
        """At most `samples` of each split."""
        cut = {name: split and split.first(samples) for name, split in vars(self).items() if name != "spec"}
        return Splits(self.spec, **cut)
