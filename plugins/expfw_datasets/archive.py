"""The arrays of a .npz file, by memory map where they are not compressed."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

from expfw import DataError

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """All arrays by name.

    Raises:
        DataError: a member is damaged, or no plain array.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.compress_type == zipfile.ZIP_STORED:
                    arrays[member.filename.removesuffix(".npy")] = _mapped(path, member)
        with np.load(path, allow_pickle=False) as compressed:
            arrays |= {name: compressed[name] for name in compressed.files if name not in arrays}
    except (OSError, ValueError, zipfile.BadZipFile, struct.error) as error:
        raise DataError(f"{path} cannot be read ({error}); expected what numpy.savez writes") from error
    return arrays


def _mapped(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """An array that lies in the archive as it is."""
    with open(path, "rb") as file:
        file.seek(member.header_offset)
        _, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        file.seek(name_length + extra_length, 1)
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{member.filename} is of NumPy's format {version}")
        shape, fortran, dtype = read_header[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are not read")
        array: np.ndarray = np.memmap(
            path, dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C"
        )
        return array
