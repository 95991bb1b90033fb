"""The state of a model in training: arrays by name, and plain values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from expfw.errors import JournalError


@dataclass(frozen=True)
class ModelState:
    """What a backend must keep of a model: copies, so that the training may go on while they are written.

    Attributes:
        arrays: NumPy arrays of any shape.
        values: JSON values, for what is no array.
        names: for people: what is in an array, where its own name does not tell.
    """

    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays below `prefix/`, without it."""
        return {name[len(prefix) + 1 :]: array for name, array in self.arrays.items() if name.startswith(f"{prefix}/")}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as safetensors, which is read without pickle; the same arrays make the same bytes.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    except SafetensorError as error:
        errno_match = re.search(r"os error (\d+)", str(error))  # it has words only
        if errno_match is None:
            raise
        raise OSError(int(errno_match[1]), os.strerror(int(errno_match[1])), str(path)) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads them.

    Raises:
        JournalError: it is no such file, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{path} cannot be read as safetensors ({error})") from error
