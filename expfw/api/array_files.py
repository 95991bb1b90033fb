"""Readers of files that others may have written: NumPy's formats and IDX; memory is limited by the size of the file."""

from __future__ import annotations

import gzip
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING

from expfw.errors import DataError
from expfw.system.input_files import open_file

if TYPE_CHECKING:
    import numpy as np

_CHUNK_BYTES = 1 << 20
_MAX_ARRAYS = 10_000
_MAX_NPY_HEADER_BYTES = 1 << 16  # NumPy accepts 10,000 at most
_UNPACKED_BYTES, _UNPACKED_RATIO = 256 << 20, 100
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_DIMENSIONS = range(1, 5)


def read_numpy(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a `.npz` file by name, or the array of a `.npy` file with an empty name.

    Arrays that are not compressed are memory-mapped. Arrays of Python objects, which could run code, are not read: they
    are returned without elements.

    Raises:
        DataError: if the file cannot be read, is damaged, or unpacks to much more than its size.
    """
    import numpy as np

    try:
        with open_file(path) as file:
            content = np.memmap(file, np.uint8, mode="r")
            if content[:6].tobytes() == np.lib.format.MAGIC_PREFIX:
                return {"": _decode_array(content)}
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                if len(members) > _MAX_ARRAYS:
                    raise ValueError(f"it contains {len(members):,} files, more than {_MAX_ARRAYS:,}")
                unpacked_bytes = sum(m.file_size for m in members if m.compress_type != zipfile.ZIP_STORED)
                if unpacked_bytes > _get_max_unpacked_bytes(len(content)):
                    raise _make_unpacked_error(path, "write it again with numpy.savez")
                return {m.filename.removesuffix(".npy"): _read_member(archive, m, content) for m in members}
    except DataError:
        raise
    except Exception as error:  # damaged bytes raise any error: NumPy parses headers as Python
        reason = getattr(error, "strerror", None) or str(error)[:200] or type(error).__name__
        raise DataError(f"cannot read {path} ({reason}); expected a file written by numpy.save or savez") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, content: np.ndarray) -> np.ndarray:
    """Returns an array of an archive: a part of its mapped content, unless it is compressed."""
    import numpy as np

    if member.compress_type == zipfile.ZIP_STORED:
        lengths = content[member.header_offset + 26 :][:4].view("<u2")  # of the name and of the extra field
        begin = member.header_offset + 30 + int(lengths.sum())
        return _decode_array(content[begin : begin + member.file_size], member.filename)
    if member.compress_type != zipfile.ZIP_DEFLATED:
        raise ValueError(f"{member.filename} has an unknown compression")
    with archive.open(member) as file:
        return _decode_array(np.frombuffer(_read_at_most(file, member.file_size), np.uint8), member.filename)


def _decode_array(body: np.ndarray, name: str = "it") -> np.ndarray:
    """Returns the array whose bytes, in NumPy's format, are `body`, without a copy."""
    import numpy as np

    file = io.BytesIO(body[:_MAX_NPY_HEADER_BYTES].tobytes())
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} has the unknown NumPy format {version}")
    shape, is_fortran_order, dtype = readers[version](file)
    if dtype.hasobject:
        return np.empty(0, object)
    return body[file.tell() :].view(dtype).reshape(shape, order="F" if is_fortran_order else "C")


def is_idx(path: Path) -> bool:
    """Returns whether a file, gzipped or not, begins like an IDX file."""
    try:
        with _open_unpacked(path, "an IDX file") as (file, _):
            return _is_idx_magic(file.read(4))
    except DataError:
        return False


def read_idx(path: Path, dimensions: int | None = None) -> np.ndarray:
    """Reads an array in the IDX format of MNIST: a type, the shape, then the values; optionally gzipped.

    Args:
        path: the file; gzip is detected by the first bytes.
        dimensions: required number of dimensions of unsigned bytes; None for any array.

    Returns:
        Array with the shape in the header; a memory map if the file is not gzipped.

    Raises:
        DataError: if the file cannot be read, is truncated, longer than declared in its header, or another array.
    """
    import numpy as np

    with _open_unpacked(path, "an IDX file") as (file, is_gzipped):
        magic = file.read(4)
        is_expected = magic == bytes((0, 0, 8, dimensions)) if dimensions else _is_idx_magic(magic)
        if len(magic) == 4 and not is_expected:
            plural = "" if dimensions == 1 else "s"
            expected = (
                f"00 00 08 {dimensions:02x}, an IDX file of unsigned bytes with {dimensions} dimension{plural}"
                if dimensions
                else "00 00, then the type and the number of dimensions of an IDX file"
            )
            raise DataError(f"{path} begins with {magic.hex(' ')}; expected {expected}")
        header = file.read(4 * magic[3]) if is_expected else b""
        if not is_expected or len(header) < 4 * magic[3]:
            byte_count = len(magic) + len(header)
            raise DataError(
                f"{path} is truncated: {byte_count} bytes, less than the header of an IDX file; download it again"
            )
        shape, dtype = tuple(np.frombuffer(header, ">u4").tolist()), np.dtype(_IDX_TYPES[magic[2]])
        byte_count, offset = math.prod(shape) * dtype.itemsize, 4 + len(header)
        if not is_gzipped and byte_count and os.fstat(file.fileno()).st_size == offset + byte_count:
            return np.memmap(file, dtype, mode="r", offset=offset, shape=shape)
        body = _read_at_most(file, byte_count + 1)
    if len(body) != byte_count:
        found = f"{len(body):,}" if len(body) < byte_count else "more"
        raise DataError(
            f"{path} is truncated or damaged: its header declares {byte_count:,} bytes, shape {shape}; found {found}; "
            "download it again"
        )
    return np.frombuffer(body, dtype).reshape(shape)


def _is_idx_magic(magic: bytes) -> bool:
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _IDX_TYPES and magic[3] in _IDX_DIMENSIONS


def read_unpacked(path: Path, max_bytes: int, description: str = "a file") -> bytearray:
    """Returns the first `max_bytes` bytes of a file, unpacked if it is gzipped; the file name does not matter.

    Raises:
        DataError: if the file cannot be read, is damaged, or unpacks to much more than its size; the message names the
            expected format, `description`.
    """
    with _open_unpacked(path, description) as (file, _):
        return _read_at_most(file, max_bytes)


@contextmanager
def _open_unpacked(path: Path, description: str) -> Iterator[tuple[IO[bytes] | BufferedIOBase, bool]]:
    """Opens a file, unpacked if its first bytes are those of gzip; yields the open file, and whether it is gzipped."""
    try:
        with open_file(path) as file:
            is_gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not is_gzipped:
                yield file, False
                return
            with _LimitedGzipFile(fileobj=file) as unpacked_file:
                yield unpacked_file, True
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); download it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; expected {description}") from error


class _LimitedGzipFile(gzip.GzipFile):
    """Raises a `DataError` when it has unpacked much more than the size of the file."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > _get_max_unpacked_bytes(os.fstat(self.fileno()).st_size):
            raise _make_unpacked_error(Path(self.name), "unpack it with gunzip")
        return data


def _get_max_unpacked_bytes(packed_bytes: int) -> int:
    return max(_UNPACKED_BYTES, _UNPACKED_RATIO * packed_bytes)


def _make_unpacked_error(path: Path, remedy: str) -> DataError:
    return DataError(
        f"{path} unpacks to more than {_UNPACKED_BYTES >> 20} MiB and more than {_UNPACKED_RATIO} times its size, like "
        f"a file that is made to exhaust the memory; if you trust it, {remedy}"
    )


def _read_at_most(file: IO[bytes] | BufferedIOBase, count: int) -> bytearray:
    """Reads up to `count` bytes in chunks, so that a wrong count in a header does not allocate too much memory."""
    body = bytearray()
    while len(body) < count and (chunk := file.read(min(_CHUNK_BYTES, count - len(body)))):
        body += chunk
    return body
