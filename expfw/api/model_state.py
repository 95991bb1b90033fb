"""The state of a model: arrays by name, and plain values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from expfw.errors import JournalError
from expfw.system.input_files import open_file


@dataclass(frozen=True)
class ModelState:
    """The saved state of a model: copies, so that training can continue while they are written.

    Attributes:
        arrays: NumPy arrays of any shape, by name.
        values: other state, as JSON values.
        names: readable names of arrays whose own name is not descriptive.
    """

    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays whose names start with `prefix/`, under their names without the prefix."""
        return {name[len(prefix) + 1 :]: array for name, array in self.arrays.items() if name.startswith(f"{prefix}/")}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as safetensors, a format without pickle; the same arrays produce the same bytes.

    Raises:
        OSError: if the disk is full or not writable.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    except SafetensorError as error:
        errno_match = re.search(r"os error (\d+)", str(error))  # the error has no errno attribute
        if errno_match is None:
            raise
        raise OSError(int(errno_match[1]), os.strerror(int(errno_match[1])), str(path)) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads arrays from a safetensors file.

    Raises:
        JournalError: if the file is missing, damaged or not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        open_file(path).close()  # safetensors would wait for a pipe
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise JournalError(f"cannot read {path} as safetensors ({error})") from error
