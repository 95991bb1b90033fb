"""Preprocessing of samples, which is saved with the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class AffineScaling:
    """Preprocessing `x * scale + offset`, elementwise. It is part of a saved model, which takes raw samples.

    Attributes:
        scale: a number, or an array that broadcasts to one sample.
        offset: a number, or an array that broadcasts to one sample.
    """

    scale: Any = 1.0
    offset: Any = 0.0

    def __call__(self, raw: Any) -> np.ndarray:
        """Preprocesses raw samples `(n, ...)` of any real dtype. Returns float32 of the same shape."""
        import numpy as np

        scaled = np.asarray(raw, np.float32) * np.asarray(self.scale, np.float32)
        scaled += np.asarray(self.offset, np.float32)
        return scaled

    def inverse(self, preprocessed: Any) -> np.ndarray:
        """Returns raw samples for preprocessed ones, in float32 precision; 0 for elements with scale 0."""
        import numpy as np

        scale, offset = np.asarray(self.scale, np.float64), np.asarray(self.offset, np.float64)
        difference = np.asarray(preprocessed, np.float64) - offset
        raw = np.divide(difference, scale, out=np.zeros_like(difference), where=scale != 0)
        return raw.astype(np.float32)


class Preprocessed:
    """Samples that are preprocessed on demand, for data that may be larger than memory.

    The raw samples stay in place, for example in a memory-mapped file. Indexing returns NumPy arrays.

    Args:
        raw: raw samples `(n, *shape)`, any object that supports NumPy indexing.
        preprocessing: function from raw samples to model input.
        rows: indices of the selected samples, in order; all samples by default.
    """

    def __init__(self, raw: Any, preprocessing: Callable[[Any], np.ndarray], rows: np.ndarray | None = None) -> None:
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
