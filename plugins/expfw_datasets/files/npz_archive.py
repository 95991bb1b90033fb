"""Arrays of a .npz file, memory-mapped if not compressed."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from expfw import DataError

_MAX_HEADER_BYTES = 1 << 16  # NumPy accepts 10,000 at most
_READ_ERRORS = (
    OSError,
    EOFError,
    TypeError,  # a header whose keys cannot be sorted
    ValueError,
    OverflowError,
    RuntimeError,  # encrypted, or an unknown compression
    SyntaxError,  # NumPy parses a header as Python
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Returns all arrays by name.

    Raises:
        DataError: if an array is damaged or contains Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = np.memmap(path, np.uint8, mode="r")
            return {
                member.filename.removesuffix(".npy"): _read_array(archive, member, content)
                for member in archive.infolist()
            }
    except _READ_ERRORS as error:
        raise DataError(
            f"cannot read {path} ({str(error)[:200]}); expected an archive written by numpy.savez"
        ) from error


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, content: np.ndarray) -> np.ndarray:
    """Returns an array in NumPy's format: a part of the mapped content of the archive, unless it is compressed."""
    if member.compress_type == zipfile.ZIP_STORED:
        lengths = content[member.header_offset + 26 :][:4].view("<u2")  # of the name and of the extra field
        begin = member.header_offset + 30 + int(lengths.sum())
        body = content[begin : begin + member.file_size]
    else:
        body = np.frombuffer(archive.read(member), np.uint8)
    file = io.BytesIO(body[:_MAX_HEADER_BYTES].tobytes())
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{member.filename} has the unknown NumPy format {version}")
    shape, is_fortran_order, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} contains Python objects, which are not supported")
    return body[file.tell() :].view(dtype).reshape(shape, order="F" if is_fortran_order else "C")
