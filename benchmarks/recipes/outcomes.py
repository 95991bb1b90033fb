"""What recipes leave behind, as their checks read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rows import Row, equal

if TYPE_CHECKING:
    from session import Outcome


def fitted_line(outcome: Outcome) -> tuple[float, float]:
    """Weight and bias of a fitted line, from the saved arrays (by position: bias, weight)."""
    bias, weight = arrays(outcome).values()
    return float(weight.item()), float(bias.item())


def arrays(outcome: Outcome) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(sorted(load_file(outcome.folder / "model" / "weights.safetensors").items()))


def accuracy_on(outcome: Outcome, part: str) -> float:
    """Of the saved model on raw pixels of a whole MNIST file."""
    import expfw
    from expfw_datasets.files.idx import read_idx

    folder = outcome.data / "mnist"
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    output = expfw.load_model(outcome.folder / "model").predict(pixels)
    return float(np.mean(output.argmax(axis=1) == labels))


def picture(made: Outcome, name: str) -> Row:
    return equal(f"picture {name}.png", (made.folder / "pictures" / f"{name}.png").is_file(), True)
