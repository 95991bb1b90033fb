"""Random images of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import expfw


class Noise(expfw.Dataset):
    """Images of random pixels with random labels, made from the run's seed: to look at models, and to measure speed."""

    @dataclass
    class Config:
        shape: tuple[int, ...] = expfw.option((227, 227, 3), help="height, width and channels of an image")
        classes: int = expfw.option(1000, help="how many classes there are")
        samples: int = expfw.option(64, help="training samples; there are a quarter as many for validation")

        def __post_init__(self) -> None:
            if len(self.shape) != 3 or min(self.shape) < 1:
                raise ValueError(f"shape is {list(self.shape)}; expected height, width and channels, each 1 or more")
            if self.classes < 2 or self.samples < 4:
                raise ValueError(f"classes is {self.classes} and samples {self.samples}; expected at least 2 and 4")

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
