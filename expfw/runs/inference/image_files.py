"""Image files as raw samples: in the colours, the size and the range of values that the model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from expfw.errors import DataError, one_line

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_TOPS = (1, 16, 255, 65535)


def in_folder(folder: Path) -> list[Path]:
    """The image files in a folder and those below it, by name.

    Raises:
        DataError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"the folder {folder} has no images; expected files like {', '.join(SUFFIXES[:4])}")
    return found


@dataclass
class Pictures:
    """Reads images for a model.

    Args:
        shape: of one sample: `(height, width)`, with 1 channel or with 3.
        values: the least and the largest raw value of the training data, where they are known.
        invert: whether dark becomes bright.

    Attributes:
        count: of images read; sizes, modes: what they were.
    """

    shape: tuple[int, ...]
    values: tuple[float, float] | None
    invert: bool
    count: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    modes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not (len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] in (1, 3))):
            raise DataError(
                f"the model takes samples of shape {self.shape}, which are no images; expected .npy, .npz or .csv files"
            )

    @property
    def coloured(self) -> bool:
        """Whether the model takes colours."""
        return self.shape[2:] == (3,)

    def read(self, path: Path) -> np.ndarray:
        """One raw sample, float32 of the model's shape.

        Raises:
            DataError: it is no image that can be read.
        """
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                pixels = np.asarray(self._prepared(image), np.float32)
        except UnidentifiedImageError as error:
            raise DataError(
                f"{path} is nothing that can be read; expected an image, a .npy, .npz or .csv file, or an IDX file"
            ) from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be read as an image ({one_line(str(error))})") from error
        least, largest = self.range
        share = (255 - pixels if self.invert else pixels) / 255
        return (least + share * (largest - least)).reshape(self.shape)

    def _prepared(self, image: Image) -> Image:
        import numpy as np
        import PIL.Image
        from PIL import ImageOps

        height, width = self.shape[:2]
        self.count += 1
        self.modes.add(image.mode)
        turned = ImageOps.exif_transpose(image)
        self.sizes.add((turned.height, turned.width))
        if turned.mode.startswith("I"):  # 16 bits, which Pillow would cut off
            turned = PIL.Image.fromarray((np.asarray(turned, np.float64) / 257).clip(0, 255).astype(np.uint8))
        if turned.has_transparency_data:
            ground = PIL.Image.new("RGBA", turned.size, "white")
            turned = PIL.Image.alpha_composite(ground, turned.convert("RGBA"))
        converted = turned.convert("RGB" if self.coloured else "L")
        if converted.size == (width, height):
            return converted
        return converted.resize((width, height), PIL.Image.Resampling.BICUBIC)

    @property
    def range(self) -> tuple[float, float]:
        """What black and white become: the usual range that holds the raw values of the training data."""
        if self.values is None:
            return 0.0, 255.0
        least, largest = self.values
        if least < 0:
            return (-1.0, 1.0) if least >= -1 and largest <= 1 else (least, largest)
        return 0.0, float(next((top for top in _TOPS if largest <= top * 1.0001), largest))

    def said(self) -> str:
        """What was done to them, in one line."""
        height, width = self.shape[:2]
        colour = "colour" if self.coloured else "gray"
        done = [f"{self.count} image{'s' if self.count > 1 else ''}:"]
        others = self.modes - ({"RGB"} if self.coloured else {"L"})
        done.append(f"made {colour}," if others else f"{colour},")
        if self.sizes - {(height, width)}:
            done.append(f"resized to {height}x{width} from {_several(sorted(f'{h}x{w}' for h, w in self.sizes))},")
        else:
            done.append(f"{height}x{width},")
        if self.invert:
            done.append("inverted,")
        least, largest = self.range
        whose = (
            "as in the training data" if self.values is not None else "(the model does not say what it learned from)"
        )
        done.append(f"values {least:g} to {largest:g} {whose}")
        return " ".join(done)


def _several(words: Sequence[str]) -> str:
    return ", ".join(words) if len(words) <= 3 else f"{', '.join(words[:3])} and {len(words) - 3} more sizes"
