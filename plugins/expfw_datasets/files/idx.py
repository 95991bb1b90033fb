"""The IDX format of MNIST: a magic number, the sizes, then bytes; optionally gzipped."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from expfw import DataError
from expfw_datasets.files.gzipped_files import open_maybe_gzipped, read_at_most

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads a file of unsigned bytes.

    Args:
        path: the file; gzip is detected by the first bytes.
        dimensions: required number of dimensions: 3 for images, 1 for labels.

    Returns:
        uint8 array with the shape in the header; a memory map if the file is not gzipped.

    Raises:
        DataError: if the file is missing, truncated, longer than declared in its header, or not an IDX file of bytes.
    """
    with open_maybe_gzipped(path, "an IDX file") as (file, is_gzipped):
        header = file.read(4 + 4 * dimensions)
        if len(header) < 4 + 4 * dimensions:
            raise DataError(
                f"{path} is truncated: {len(header)} bytes, less than the header of an IDX file; download it again"
            )
        if header[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
            raise DataError(
                f"{path} begins with {header[:4].hex(' ')}; expected 00 00 08 {dimensions:02x}, "
                f"an IDX file of unsigned bytes with {dimensions} dimension{'s' if dimensions > 1 else ''}"
            )
        shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
        byte_count = math.prod(shape)
        if not is_gzipped and byte_count and path.stat().st_size == len(header) + byte_count:
            return np.memmap(path, np.uint8, mode="r", offset=len(header), shape=shape)
        body = read_at_most(file, byte_count + 1)
    if len(body) != byte_count:
        found = f"{len(body):,}" if len(body) < byte_count else "more"
        raise DataError(
            f"{path} is truncated or damaged: its header declares {byte_count:,} bytes, shape {shape}; found {found}; "
            "download it again"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)
