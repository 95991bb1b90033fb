"""Random images of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import expfw


class Noise(expfw.Dataset):
    """Images of random pixels with random labels, drawn from the run's seed, to inspect models and measure speed."""

    @dataclass
    class Config:
        shape: tuple[int, ...] = expfw.option((227, 227, 3), help="height, width and channels of an image", at_least=1)
        classes: int = expfw.option(1000, help="number of classes", at_least=2)
        samples: int = expfw.option(64, help="number of training samples; a quarter as many for validation", at_least=4)

        def __post_init__(self) -> None:
            if len(self.shape) != 3:
                raise ValueError(f"shape is {list(self.shape)}; expected height, width and channels")

    def load(self, seed: int) -> expfw.Splits:
        options = self.config
        generator = np.random.Generator(np.random.PCG64(seed))
        preprocessing = expfw.AffineScaling(scale=1 / 255)

        def make_split(samples: int) -> expfw.Split:
            pixels = generator.integers(0, 256, (samples, *options.shape), dtype=np.uint8)
            labels = generator.integers(0, options.classes, samples, dtype=np.int32)
            return expfw.Split(expfw.Preprocessed(pixels, preprocessing), labels)

        spec = expfw.DataSpec(options.shape, options.classes, preprocessing=preprocessing)
        return expfw.Splits(spec, make_split(options.samples), make_split(options.samples // 4))
