"""Results of recipes, for their checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rows import Row, check_equal

if TYPE_CHECKING:
    from session import RecordedRun


def read_fitted_line(recorded_run: RecordedRun) -> tuple[float, float]:
    """Returns weight and bias of a fitted line, from the saved arrays (in this order: bias, weight)."""
    bias, weight = read_model_arrays(recorded_run).values()
    return float(weight.item()), float(bias.item())


def read_model_arrays(recorded_run: RecordedRun) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(sorted(load_file(recorded_run.folder / "model" / "weights.safetensors").items()))


def measure_accuracy(recorded_run: RecordedRun, part: str) -> float:
    """Returns the accuracy of the saved model on the raw pixels of a complete MNIST file."""
    import expfw
    from expfw import read_idx

    folder = recorded_run.data_folder / "mnist"
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    output = expfw.load_model(recorded_run.folder / "model").predict(pixels)
    return float(np.mean(output.argmax(axis=1) == labels))


def check_picture(recorded_run: RecordedRun, name: str) -> Row:
    return check_equal(f"picture {name}.png", (recorded_run.folder / "pictures" / f"{name}.png").is_file(), True)
