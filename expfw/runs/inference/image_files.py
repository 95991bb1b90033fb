"""Image files as raw samples: with the colours, size and value range of the training data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.errors import DataError, to_one_line
from expfw.system.formatting import pluralize

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_USUAL_MAXIMA = (1, 16, 255, 65535)


@dataclass
class ImageReader:
    """Reads images for a model.

    Args:
        shape: shape of a sample: `(height, width)`, `(height, width, 1)` or `(height, width, 3)`.
        value_range: smallest and largest raw value of the training data; None if unknown.
        invert: whether to invert the brightness.
    """

    shape: tuple[int, ...]
    value_range: tuple[float, float] | None
    invert: bool
    sizes: list[tuple[int, int]] = field(default_factory=list)  # of the images read so far
    modes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] in (1, 3))):
            raise DataError(
                f"the model takes samples of shape {self.shape}, not images; expected .npy, .npz or .csv files"
            )
        self.mode = "RGB" if self.shape[2:] == (3,) else "L"

    def read(self, path: Path) -> np.ndarray:
        """Reads one raw sample, float32, with the shape of the model."""
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

        self.modes.append(image.mode)
        upright = ImageOps.exif_transpose(image)
        self.sizes.append((upright.height, upright.width))
        if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip
            upright = PIL.Image.fromarray((np.asarray(upright, np.float64) / 257).clip(0, 255).astype(np.uint8))
        if upright.has_transparency_data:
            background = PIL.Image.new("RGBA", upright.size, "white")
            upright = PIL.Image.alpha_composite(background, upright.convert("RGBA"))
        converted, (height, width) = upright.convert(self.mode), self.shape[:2]
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
        size, colour = f"{self.shape[0]}x{self.shape[1]}", "colour" if self.mode == "RGB" else "gray"
        sizes = sorted({f"{height}x{width}" for height, width in self.sizes})
        more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
        (least, largest), is_known = self.output_range, self.value_range is not None
        parts = [
            colour if set(self.modes) == {self.mode} else f"converted to {colour}",
            size if sizes == [size] else f"resized to {size} from {', '.join(sizes[:3])}{more}",
            *(["inverted"] if self.invert else []),
            f"values {least:g} to {largest:g} "
            f"{'as in the training data' if is_known else '(the range of the training data is unknown)'}",
        ]
        return f"{pluralize(len(self.sizes), 'image')}: {', '.join(parts)}"
