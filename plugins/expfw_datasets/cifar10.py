"""CIFAR-10 in its binary version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import expfw
from expfw_datasets.files.gzipped_files import describe_file, find_file, require_file
from expfw_datasets.preprocessing import images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, CHANNELS = 32, 3
RECORD_BYTES = 1 + CHANNELS * SIDE * SIDE  # the label, then the red, green and blue plane
MAX_RECORDS = 60_000  # records of all CIFAR-10; no file has more


class Cifar10(expfw.Dataset):
    """60,000 colour images of 32x32 pixels in ten classes (Krizhevsky 2009), from `dataset.path`.

    Reads `test_batch.bin`, and for training the available files of `data_batch_1.bin` to `data_batch_5.bin`.
    """

    uses_seed: ClassVar = False

    Config: ClassVar = images.ImageFilesOptions

    def load(self, seed: int) -> expfw.Splits:
        *train_files, test_file = self._list_files()
        x, y = (np.concatenate(arrays) for arrays in zip(*map(read_records, train_files), strict=True))
        return images.make_splits((x, y), read_records(test_file), CLASSES, self.config)

    def identity(self) -> Mapping[str, Any]:
        return {file.name: describe_file(file) for file in self._list_files()}

    def _list_files(self) -> list[Path]:
        """Returns the available files for training, at least one, and the file for testing."""
        folder, expected = Path(self.config.path), "CIFAR-10, binary version"
        names = [f"data_batch_{number}.bin" for number in range(1, 6)]
        train_files = [file for name in names if (file := find_file(folder, name)) is not None]
        if not train_files:
            train_files = [require_file(folder, names[0], expected)]
        return [*train_files, require_file(folder, "test_batch.bin", expected)]


def read_records(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images, uint8 `(n, 32, 32, 3)`, and labels, uint8 `(n,)`, from one file.

    Raises:
        DataError: if the file cannot be read, contains an incomplete record, or has a label outside 0 to 9.
    """
    body = expfw.read_unpacked(path, MAX_RECORDS * RECORD_BYTES + 1, "a file of the binary version of CIFAR-10")
    if not body or len(body) % RECORD_BYTES or len(body) > MAX_RECORDS * RECORD_BYTES:
        raise expfw.DataError(
            f"{path} contains {len(body):,} bytes; expected 1 to {MAX_RECORDS:,} records of {RECORD_BYTES:,} bytes: "
            "a label, then 32x32 pixels in red, green and blue"
        )
    records = np.frombuffer(body, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() >= len(CLASSES):
        raise expfw.DataError(
            f"{path} has the label {labels.max()}; expected 0 to 9 (the format of CIFAR-100 is different)"
        )
    planes = records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
