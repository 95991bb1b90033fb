"""Named raw samples from files of any supported format."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expfw.errors import ConfigError, DataError
from expfw.runs.inference import image_files, number_files
from expfw.runs.inference.image_files import ImageReader
from expfw.runs.saved_model import ModelDescription


@dataclass(frozen=True)
class Samples:
    """Raw samples for a prediction.

    Attributes:
        names: name of each sample: its file, and its row number (from 1) if the file has several samples.
        raw: samples of shape `(n, *input_shape)`, or a dictionary of such arrays.
        notes: one line for each conversion or mismatch.
    """

    names: Sequence[str]
    raw: Any
    notes: Sequence[str] = ()


def read_samples(paths: Sequence[Path], description: ModelDescription, invert: bool) -> Samples:
    """Reads files and folders, in this order.

    Args:
        paths: files and folders.
        description: description of the model.
        invert: whether to invert the brightness of images.

    Raises:
        DataError: if a file is missing, cannot be read, or does not fit the model.
        ConfigError: if `invert` is set, but no file is an image.
    """
    import numpy as np

    shape = description.data.input_shape
    if isinstance(shape, Mapping):
        return _read_parts(paths, shape)
    reader: ImageReader | None = None
    names: list[str] = []
    parts: list[Any] = []
    notes: list[str] = []
    for path in _list_files(paths):
        if path.suffix.lower() in number_files.SUFFIXES or number_files.is_idx(path):
            part = _read_numbers(path, shape)
            notes += _describe_range_mismatch(path, part, description.raw_range)
        else:
            reader = reader or ImageReader(shape, description.raw_range, invert)
            part = reader.read(path)[np.newaxis]
        names += [str(path)] if len(part) == 1 else [f"{path}:{row}" for row in range(1, len(part) + 1)]
        parts.append(part)
    if invert and reader is None:
        raise ConfigError("--invert applies to images, but none of the files is an image")
    return Samples(names, np.concatenate(parts), notes if reader is None else [*notes, reader.describe()])


def _list_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; expected images, .npy, .npz, .csv or IDX files")
        files += image_files.list_images(path) if path.is_dir() else [path]
    return files


def _read_numbers(path: Path, shape: tuple[int, ...]) -> Any:
    if path.suffix.lower() == ".csv":
        return _fit_rows(path, number_files.read_csv(path), shape)
    if path.suffix.lower() in number_files.SUFFIXES:
        return number_files.fit_to_shape(number_files.read_numpy(path, ()), shape, str(path))
    return number_files.fit_to_shape(number_files.read_idx(path), shape, str(path))


def _fit_rows(path: Path, table: Any, shape: tuple[int, ...]) -> Any:
    columns, expected_count = table.shape[1], math.prod(shape)
    if columns == expected_count:
        return number_files.fit_to_shape(table, shape, str(path))
    hint = "; if one column is the label, remove it" if columns == expected_count + 1 else ""
    product = f" ({'x'.join(map(str, shape))})" if len(shape) > 1 else ""
    actual_text, expected_text = (
        f"{count:,} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((columns, "column"), (expected_count, "number"))
    )
    raise DataError(f"{path} has {actual_text}; the model takes samples of {expected_text}{product}{hint}")


def _describe_range_mismatch(path: Path, raw: Any, training_range: tuple[float, float] | None) -> Iterator[str]:
    """Yields a line if the values are far outside the range of the training data, or seem to be scaled."""
    if training_range is None:
        return
    (training_low, training_high), (smallest, largest) = training_range, (float(raw.min()), float(raw.max()))
    is_outside = largest > training_high + (training_high - training_low) or smallest < training_low - (
        training_high - training_low
    )
    is_scaled = raw[0].size > 1 and training_low >= 0 and training_high >= 10 and 0 <= smallest < largest <= 1
    if is_outside or is_scaled:
        yield (
            f"{path} has values from {smallest:g} to {largest:g}, the training data from {training_low:g} to "
            f"{training_high:g}; expected raw samples, as in the files of the dataset"
        )


def _read_parts(paths: Sequence[Path], shapes: Mapping[str, tuple[int, ...]]) -> Samples:
    """Reads the samples of a model with several inputs."""
    if len(paths) != 1 or paths[0].suffix != ".npz" or not paths[0].is_file():
        raise DataError(f"the model takes several inputs; expected one .npz file with arrays {', '.join(shapes)}")
    arrays = number_files.read_numpy(paths[0], list(shapes))
    raw = {
        part: number_files.fit_to_shape(arrays[part], tuple(shape), f"{paths[0]}: {part}")
        for part, shape in shapes.items()
    }
    counts = {len(array) for array in raw.values()}
    if len(counts) > 1:
        raise DataError(
            f"{paths[0]} has arrays of {' and '.join(map(str, sorted(counts)))} samples; expected equal numbers"
        )
    return Samples([f"{paths[0]}:{row}" for row in range(1, counts.pop() + 1)], raw)
