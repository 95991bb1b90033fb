"""Raw samples from files of numbers: .npy, .npz, IDX and CSV."""

from __future__ import annotations

import gzip
import math
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.errors import DataError, to_one_line

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".npy", ".npz", ".csv")
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_numpy(path: Path, parts: Sequence[str]) -> Any:
    """Reads the array of a .npy file, or the array with samples of a .npz file.

    Args:
        path: path of the file.
        parts: parts of a sample; if there are several, the result is a dictionary of arrays.

    Raises:
        DataError: if the file cannot be read, or it is not clear which array contains the samples.
    """
    import numpy as np

    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            return content
        with content:
            names = list(content.files)
            if parts:
                return (
                    {part: content[part] for part in parts}
                    if set(parts) <= set(names)
                    else _reject_unclear_arrays(path, names, parts)
                )
            array_name = names[0] if len(names) == 1 else next((n for n in ("x", "x_test") if n in names), None)
            return _reject_unclear_arrays(path, names, ()) if array_name is None else content[array_name]
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {to_one_line(str(error))}; expected a file written by NumPy") from error


def _reject_unclear_arrays(path: Path, names: Sequence[str], parts: Sequence[str]) -> Any:
    expected = ", ".join(parts) if parts else "one array, or an array x or x_test"
    raise DataError(f"{path} contains {', '.join(names) or 'no arrays'}; expected {expected}")


def is_idx(path: Path) -> bool:
    """Returns whether a file, gzipped or not, starts like an IDX file."""
    try:
        head = _read_content(path, 4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and 1 <= head[3] <= 4


def read_idx(path: Path) -> np.ndarray:
    """Reads the array of an IDX file, gzipped or not.

    Raises:
        DataError: if the file is damaged.
    """
    import numpy as np

    try:
        content = _read_content(path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}; expected an IDX file, gzipped or not") from error
    data_offset = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, data_offset, 4))
    dtype = np.dtype(_IDX_TYPES[content[2]])
    expected = math.prod(shape) * dtype.itemsize
    if len(content) != data_offset + expected:
        raise DataError(
            f"{path} is damaged: it contains {len(content) - data_offset:,} bytes of values; "
            f"expected {expected:,} for the shape {shape} in its header"
        )
    return np.frombuffer(content, dtype, offset=data_offset).reshape(shape)


def _read_content(path: Path, count: int = -1) -> bytes:
    with open(path, "rb") as file:
        is_gzipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if is_gzipped else open(path, "rb") as file:
        return file.read(count)


def read_csv(path: Path) -> np.ndarray:
    """Reads the numbers of a CSV file, `(rows, columns)`. A first line with other text than numbers is a header.

    Raises:
        DataError: if a cell is not a number, the rows have different lengths, or there are no rows.
    """
    import numpy as np

    try:
        with open(path, encoding="utf-8-sig") as file:
            first = file.readline()
        with warnings.catch_warnings(action="ignore"):  # an empty file is an error below
            delimiter = next((candidate for candidate in ",;\t" if candidate in first), ",")
            header = int(not all(_is_number(cell) for cell in first.split(delimiter)))
            table = np.loadtxt(
                path, np.float64, delimiter=delimiter, skiprows=header, ndmin=2, comments=None, encoding="utf-8-sig"
            )
    except (OSError, ValueError) as error:
        reason = re.sub(
            r"at row (\d+)", lambda match: f"in row {int(match[1]) + 1}", to_one_line(str(error)).split("; use")[0]
        )
        reason = reason.rstrip(".")
        raise DataError(f"cannot read {path}: {reason}; expected a table of numbers, one sample per row") from error
    if table.size == 0:
        raise DataError(f"{path} has no rows; expected a table of numbers, one sample per row")
    return table


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().strip('"'))
    except ValueError:
        return False
    return True


def fit_to_shape(values: Any, shape: tuple[int, ...], source: str) -> np.ndarray:
    """Reshapes an array to samples `(n, *shape)`.

    The array may contain one sample or several, flat or not, with or without axes of length 1.

    Args:
        values: the array.
        shape: shape of a sample.
        source: name of the file, for errors.

    Raises:
        DataError: if the array does not fit the shape, is empty, or contains other values than finite real numbers.
    """
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{source} has type {array.dtype}; expected real numbers")
    if wrong := np.argwhere(~np.isfinite(array)).tolist():
        raise DataError(f"{source} has {array[tuple(wrong[0])]} at index {wrong[0]} (from 0); expected finite numbers")
    reduced_shape = _drop_unit_axes(shape)
    if array.ndim and (array.shape[1:] == (math.prod(shape),) or _drop_unit_axes(array.shape[1:]) == reduced_shape):
        if len(array) == 0:
            raise DataError(f"{source} has no samples; expected at least one")
        return array.reshape((-1, *shape))
    if array.shape in (shape, (math.prod(shape),)) or (
        len(shape) > 1 and _drop_unit_axes(array.shape) == reduced_shape
    ):
        return array.reshape((1, *shape))
    columns = f", or rows of {math.prod(shape)} numbers" if len(shape) != 1 else ""
    raise DataError(f"{source} has shape {array.shape}; the model takes samples of shape {shape}{columns}")


def _drop_unit_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
