"""Image files as raw samples: with the colours, size and value range of the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.errors import DataError, to_one_line

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_USUAL_MAXIMA = (1, 16, 255, 65535)


def list_images(folder: Path) -> list[Path]:
    """Returns the image files in a folder and its subfolders, sorted by name.

    Raises:
        DataError: if there are no images.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"folder {folder} contains no images; expected files like {', '.join(SUFFIXES[:4])}")
    return paths


@dataclass
class ImageReader:
    """Reads images for a model.

    Args:
        shape: shape of a sample: `(height, width)`, `(height, width, 1)` or `(height, width, 3)`.
        value_range: smallest and largest raw value of the training data; None if unknown.
        invert: whether to invert the brightness.

    Attributes:
        image_count: number of images read.
        sizes: sizes of the images read, `(height, width)`.
        modes: Pillow modes of the images read.
    """

    shape: tuple[int, ...]
    value_range: tuple[float, float] | None
    invert: bool
    image_count: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    modes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not (len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] in (1, 3))):
            raise DataError(
                f"the model takes samples of shape {self.shape}, not images; expected .npy, .npz or .csv files"
            )

    @property
    def has_colour(self) -> bool:
        """Whether the model takes colour images."""
        return self.shape[2:] == (3,)

    def read(self, path: Path) -> np.ndarray:
        """Reads one raw sample, float32, with the shape of the model.

        Raises:
            DataError: if the file is not a readable image.
        """
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                pixels = np.asarray(self._prepare(image), np.float32)
        except UnidentifiedImageError as error:
            raise DataError(
                f"{path} has an unknown format; expected an image, or a .npy, .npz, .csv or IDX file"
            ) from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"cannot read {path} as an image: {to_one_line(str(error))}") from error
        least, largest = self.output_range
        share = (255 - pixels if self.invert else pixels) / 255
        return (least + share * (largest - least)).reshape(self.shape)

    def _prepare(self, image: Image) -> Image:
        import numpy as np
        import PIL.Image
        from PIL import ImageOps

        height, width = self.shape[:2]
        self.image_count += 1
        self.modes.add(image.mode)
        upright = ImageOps.exif_transpose(image)
        self.sizes.add((upright.height, upright.width))
        if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip
            upright = PIL.Image.fromarray((np.asarray(upright, np.float64) / 257).clip(0, 255).astype(np.uint8))
        if upright.has_transparency_data:
            background = PIL.Image.new("RGBA", upright.size, "white")
            upright = PIL.Image.alpha_composite(background, upright.convert("RGBA"))
        converted = upright.convert("RGB" if self.has_colour else "L")
        if converted.size == (width, height):
            return converted
        return converted.resize((width, height), PIL.Image.Resampling.BICUBIC)

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
        height, width = self.shape[:2]
        colour = "colour" if self.has_colour else "gray"
        parts = [f"{self.image_count} image{'s' if self.image_count > 1 else ''}:"]
        converted_modes = self.modes - ({"RGB"} if self.has_colour else {"L"})
        parts.append(f"converted to {colour}," if converted_modes else f"{colour},")
        if self.sizes - {(height, width)}:
            parts.append(f"resized to {height}x{width} from {_join_sizes(sorted(f'{h}x{w}' for h, w in self.sizes))},")
        else:
            parts.append(f"{height}x{width},")
        if self.invert:
            parts.append("inverted,")
        least, largest = self.output_range
        range_source = (
            "as in the training data" if self.value_range is not None else "(the range of the training data is unknown)"
        )
        parts.append(f"values {least:g} to {largest:g} {range_source}")
        return " ".join(parts)


def _join_sizes(sizes: Sequence[str]) -> str:
    return ", ".join(sizes) if len(sizes) <= 3 else f"{', '.join(sizes[:3])} and {len(sizes) - 3} more sizes"
