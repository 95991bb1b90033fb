"""Small generated data of any shape: the dataset of the contracts, used as a plugin file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import expfw
from expfw.api import data_files
from expfw.api.data import get_named_parts


def write_spec(spec: expfw.DataSpec, file: Path) -> None:
    """Writes a specification for the option `spec` of the dataset."""
    values = data_files.serialize_spec(spec, file.with_suffix(".safetensors"))
    file.write_text(json.dumps(values))


class SmallData(expfw.Dataset):
    """Random samples of any shape. Classes differ in their mean; regression targets are linear in the samples."""

    uses_seed = False

    @dataclass
    class Config:
        spec: str = expfw.option("", help="file of `write_spec`; empty for images of 8x8 pixels in three classes")
        samples: int = expfw.option(32, help="training samples; half as many for validation and for test")

    def load(self, seed: int) -> expfw.Splits:
        spec = expfw.DataSpec((8, 8, 1), 3)
        if self.config.spec:
            file = Path(self.config.spec)
            spec = data_files.deserialize_spec(json.loads(file.read_text()), file.with_suffix(".safetensors"))
        count, generator = self.config.samples, np.random.default_rng(0)
        shapes = get_named_parts(spec.input_shape)
        x = {name: 0.3 * generator.normal(size=(2 * count, *shape)) for name, shape in shapes.items()}
        y = {}
        for target, (classes, _) in spec.targets().items():
            if classes is not None:
                labels = y[target] = (np.arange(2 * count) % classes).astype(np.int32)
                x = {part: a + generator.normal(size=(classes, *a.shape[1:]))[labels] for part, a in x.items()}
        flat = np.concatenate([array.reshape(2 * count, -1) for array in x.values()], axis=1)
        for target, (classes, shape) in spec.targets().items():
            if classes is None:
                weights = generator.normal(size=(flat.shape[1], math.prod(shape))) / math.sqrt(flat.shape[1])
                y[target] = (flat @ weights).reshape(-1, *shape).astype(np.float32)
        samples = {name: array.astype(np.float32) for name, array in x.items()}
        everything = expfw.Split(samples.get("", samples), y.get("", y))
        ends = (0, count, count + count // 2, 2 * count)
        return expfw.Splits(spec, *(everything.take(slice(*ends[n : n + 2])) for n in range(3)))
