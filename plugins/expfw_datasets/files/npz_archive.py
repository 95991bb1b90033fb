"""Arrays of a .npz file, memory-mapped if not compressed."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from expfw import DataError
from expfw_datasets.files.gzipped_files import read_at_most

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Returns all arrays by name.

    Raises:
        DataError: if an array is damaged or contains Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _map_array(path, member)
                if member.compress_type == zipfile.ZIP_STORED
                else _unpack_array(archive, member)
                for member in archive.infolist()
            }
    except _READ_ERRORS as error:  # RuntimeError: encrypted, or an unknown compression
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"cannot read {path} ({reason}); expected an archive written by numpy.savez") from error


def _map_array(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Memory-maps an uncompressed array."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        _, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        file.seek(name_length + extra_length, 1)
        shape, order, dtype = _read_header(file, member.filename)
        if 0 in shape:
            return np.empty(shape, dtype)
        array: np.ndarray = np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order=order)
        return array


def _unpack_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        shape, order, dtype = _read_header(file, member.filename)
        expected_bytes = math.prod(shape) * dtype.itemsize
        body = read_at_most(file, expected_bytes + 1)
    if len(body) != expected_bytes:
        raise ValueError(f"{member.filename} declares {expected_bytes:,} bytes and contains {len(body):,} or more")
    return np.frombuffer(body, dtype).reshape(shape, order=order)


def _read_header(file: Any, name: str) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    """Reads the shape, order and type of an array in NumPy's format."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} has the unknown NumPy format {version}")
    try:
        shape, fortran, dtype = readers[version](file)
    except (SyntaxError, tokenize.TokenError) as error:  # NumPy parses it as Python
        raise ValueError(f"{name} has an invalid header: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"{name} contains Python objects, which are not supported")
    if any(length < 0 for length in shape):
        raise ValueError(f"{name} declares the invalid shape {shape}")
    return shape, "F" if fortran else "C", dtype
