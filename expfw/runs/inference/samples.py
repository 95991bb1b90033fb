"""Named raw samples from files of any supported format: images, .npy, .npz, IDX and CSV."""

from __future__ import annotations

import csv
import logging
import math
import warnings
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expfw.api.array_files import is_idx, read_idx, read_numpy
from expfw.errors import ConfigError, DataError, to_one_line, truncate_text
from expfw.system.formatting import join_some, pluralize
from expfw.system.input_files import MAX_BYTES, open_file
from expfw.tracking.saved_model import SavedModel

if TYPE_CHECKING:
    import numpy as np

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_USUAL_MAXIMA = (1, 16, 255, 65535)
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # Pillow starts another program to read EPS


@dataclass(frozen=True)
class Samples:
    """Raw samples `(n, *input_shape)` for a prediction, or a dictionary of such arrays.

    The name of a sample is its file, with its row number (from 1) if the file has several samples. `notes` has one line
    for each conversion or mismatch.
    """

    names: Sequence[str]
    raw: Any
    notes: Sequence[str] = ()


def read_samples(paths: Sequence[Path], model: SavedModel, invert: bool) -> Samples:
    """Reads files and folders, in this order; `invert` inverts the brightness of images."""
    import numpy as np

    shape = model.data.input_shape
    if isinstance(shape, Mapping):
        return _read_parts(paths, shape)
    reader: ImageReader | None = None
    names: list[str] = []
    parts: list[np.ndarray] = []
    notes: list[str] = []
    for path in _list_files(paths):
        read = {".csv": _read_csv, ".npy": _read_numpy, ".npz": _read_numpy}.get(path.suffix.lower())
        if read is not None or is_idx(path):
            numbers = (read or read_idx)(path)
            part = _fit_to_shape(numbers, shape, str(path))
            low, high = model.raw_range or (-math.inf, math.inf)
            smallest, largest = float(part.min()), float(part.max())
            is_outside = largest > 2 * high - low or smallest < 2 * low - high
            is_scaled = part[0].size > 1 and low >= 0 and high >= 10 and 0 <= smallest < largest <= 1
            if is_outside or is_scaled:
                notes.append(
                    f"{path} has values from {smallest:g} to {largest:g}, the training data from {low:g} to {high:g}; "
                    "expected raw samples, as in the files of the dataset"
                )
        else:
            reader = reader or ImageReader(shape, model.raw_range, invert)
            part = reader.read(path)[np.newaxis]
        names += [str(path)] if len(part) == 1 else [f"{path}:{row}" for row in range(1, len(part) + 1)]
        parts.append(part)
    if invert and reader is None:
        raise ConfigError("--invert applies to images, but none of the files is an image")
    return Samples(names, np.concatenate(parts), notes if reader is None else [*notes, reader.describe()])


def _read_parts(paths: Sequence[Path], shapes: Mapping[str, tuple[int, ...]]) -> Samples:
    """Reads the samples of a model with several inputs."""
    if len(paths) != 1 or paths[0].suffix != ".npz" or not paths[0].is_file():
        raise DataError(f"the model takes several inputs; expected one .npz file with arrays {', '.join(shapes)}")
    arrays = _read_numpy(paths[0], list(shapes))
    raw = {part: _fit_to_shape(arrays[part], tuple(shape), f"{paths[0]}: {part}") for part, shape in shapes.items()}
    counts = sorted({len(array) for array in raw.values()})
    if len(counts) > 1:
        raise DataError(f"{paths[0]} has arrays of {' and '.join(map(str, counts))} samples; expected equal numbers")
    return Samples([f"{paths[0]}:{row}" for row in range(1, counts[0] + 1)], raw)


def _list_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yields the files, and the images in the folders and their subfolders, sorted by name."""
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; expected images, .npy, .npz, .csv or IDX files")
        if not path.is_dir():
            yield path
            continue
        images = sorted(file for file in path.rglob("*") if file.suffix.lower() in _IMAGE_SUFFIXES and file.is_file())
        if not images:
            raise DataError(f"folder {path} contains no images; expected files like {', '.join(_IMAGE_SUFFIXES[:4])}")
        yield from images


def _read_numpy(path: Path, parts: Sequence[str] = ()) -> Any:
    """Reads the array of a .npy file, or the array with samples of a .npz file; a dictionary of arrays for `parts`."""
    arrays = read_numpy(path)
    if parts and set(parts) <= arrays.keys():
        return {part: arrays[part] for part in parts}
    name = next(iter(arrays)) if len(arrays) == 1 else next((name for name in ("x", "x_test") if name in arrays), None)
    if name is not None and not parts:
        return arrays[name]
    expected = ", ".join(parts) or "one array, or an array x or x_test"
    raise DataError(f"{path} contains {', '.join(filter(None, arrays)) or 'no named arrays'}; expected {expected}")


def _read_csv(path: Path) -> np.ndarray:
    """Reads the numbers of a CSV file, `(rows, columns)`. A first line with other text than numbers is a header."""
    import numpy as np

    values, column_count, row_number = array("d"), 0, 0
    try:
        with open_file(path) as file, TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            lines = iter(lambda: text.readline(MAX_BYTES), "")
            first_line = next(lines, "")
            delimiter = next((candidate for candidate in ",;\t" if candidate in first_line), ",")
            for cells in filter(None, csv.reader(chain([first_line], lines), delimiter=delimiter)):
                row_number += 1
                numbers = list(map(_parse_number, cells))
                wrong = [place for place, number in enumerate(numbers) if number is None]
                if row_number == 1 and any(cells[place].strip() for place in wrong):
                    column_count = len(cells)
                    continue
                if wrong:
                    place = f"row {row_number} and column {wrong[0] + 1}"
                    raise DataError(f"{path} has {truncate_text(cells[wrong[0]], 80)!r} in {place}; expected numbers")
                if column_count not in (0, len(cells)):
                    raise DataError(f"{path} has {len(cells)} columns in row {row_number}; expected {column_count}")
                column_count = len(cells)
                values.extend(number for number in numbers if number is not None)
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or to_one_line(str(error))
        raise DataError(f"cannot read {path}: {reason}; expected a table of numbers") from error
    if not values:
        raise DataError(f"{path} has no rows; expected a table of numbers, one sample per row")
    return np.frombuffer(values).reshape(-1, column_count)


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _fit_to_shape(values: Any, shape: tuple[int, ...], source: str) -> np.ndarray:
    """Reshapes an array to samples `(n, *shape)`: one sample or several, flat or not, with any axes of length 1."""
    import numpy as np

    def drop_unit_axes(lengths: tuple[int, ...]) -> list[int]:
        return [length for length in lengths if length != 1]

    array, size = np.asarray(values), math.prod(shape)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{source} has type {array.dtype}; expected real numbers")
    if (is_wrong := ~np.isfinite(array)).any():
        index = [int(place) for place in np.unravel_index(is_wrong.argmax(), array.shape)]
        raise DataError(f"{source} has {array[tuple(index)]} at index {index} (from 0); expected finite numbers")
    if array.ndim and (array.shape[1:] == (size,) or drop_unit_axes(array.shape[1:]) == drop_unit_axes(shape)):
        if len(array) == 0:
            raise DataError(f"{source} has no samples; expected at least one")
        return array.reshape((-1, *shape))
    if array.shape == (size,) or (len(shape) > 1 and drop_unit_axes(array.shape) == drop_unit_axes(shape)):
        return array.reshape((1, *shape))
    columns = f", or rows of {size} numbers" if len(shape) != 1 else ""
    raise DataError(f"{source} has shape {array.shape}; the model takes samples of shape {shape}{columns}")


@dataclass
class ImageReader:
    """Reads images as samples of `shape`: `(height, width)`, `(height, width, 1)` or `(height, width, 3)`.

    `value_range` is the smallest and largest raw value of the training data; `invert` inverts the brightness.
    """

    shape: tuple[int, ...]
    value_range: tuple[float, float] | None
    invert: bool
    sizes: list[str] = field(default_factory=list)  # of the images read so far
    modes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] in (1, 3))):
            raise DataError(
                f"the model takes samples of shape {self.shape}, not images; expected .npy, .npz or .csv files"
            )
        logging.getLogger("PIL").addHandler(logging.NullHandler())  # it would print a second line about damaged images
        self.mode = "RGB" if self.shape[2:] == (3,) else "L"

    def read(self, path: Path) -> np.ndarray:
        """Reads one raw sample, float32, with the shape of the model."""
        import numpy as np
        from PIL import Image, ImageOps, UnidentifiedImageError

        height, width = self.shape[:2]
        try:
            with open_file(path) as file, warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                image = ImageOps.exif_transpose(Image.open(file, formats=_IMAGE_FORMATS))
            self.modes.append(image.mode)
            self.sizes.append(f"{image.height}x{image.width}")
            if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
                image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                background = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(background, image.convert("RGBA"))
            image = image.convert(self.mode).resize((width, height), Image.Resampling.BICUBIC)
            pixels = np.asarray(image, np.float32)
        except UnidentifiedImageError as error:
            raise DataError(
                f"{path} has an unknown format; expected an image, or a .npy, .npz, .csv or IDX file"
            ) from error
        except Exception as error:  # damaged bytes raise any error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DataError(f"cannot read {path} as an image: {truncate_text(to_one_line(reason), 200)}") from error
        least, largest = self.output_range
        share = (255 - pixels if self.invert else pixels) / 255
        return (least + share * (largest - least)).reshape(self.shape)

    @property
    def output_range(self) -> tuple[float, float]:
        """Values of black and white: the common range that contains the raw values of the training data."""
        if self.value_range is None:
            return 0.0, 255.0
        least, largest = self.value_range
        if least < 0:
            return (-1.0, 1.0) if least >= -1 and largest <= 1 else (least, largest)
        return 0.0, float(next((top for top in _USUAL_MAXIMA if largest <= top * 1.0001), largest))

    def describe(self) -> str:
        """Returns the applied conversions in one line."""
        size, colour = f"{self.shape[0]}x{self.shape[1]}", "colour" if self.mode == "RGB" else "gray"
        least, largest = self.output_range
        note = "as in the training data" if self.value_range else "(the range of the training data is unknown)"
        parts = [
            colour if set(self.modes) == {self.mode} else f"converted to {colour}",
            size if set(self.sizes) == {size} else f"resized to {size} from {join_some(sorted(set(self.sizes)), 3)}",
            *(["inverted"] if self.invert else []),
            f"values {least:g} to {largest:g} {note}",
        ]
        return f"{pluralize(len(self.sizes), 'image')}: {', '.join(parts)}"
