"""A curve plus noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import expfw


class Curve(expfw.Dataset):
    """y = sin(pi x) plus noise, x drawn evenly from [-1, 1]: 70 % for training, 20 % validation, 10 % test.

    Made from the run's seed. With another `limit` or `noise`, the samples and the shape of the noise stay the same, so
    that errors can be compared.
    """

    @dataclass
    class Config:
        samples: int = expfw.option(200, help="how many there are, of all three splits")
        noise: float = expfw.option(0.3, help="standard deviation of the noise")
        limit: int | None = expfw.option(None, help="use only so many of the training samples")

        def __post_init__(self) -> None:
            if self.samples < 10 or not self.noise >= 0:
                raise ValueError(f"samples is {self.samples} and noise {self.noise}; expected at least 10 and 0")
            if self.limit is not None and self.limit < 1:
                raise ValueError(f"limit is {self.limit}; expected 1 or more")

    def load(self, seed: int) -> expfw.Splits:
        options = self.config
        generator = np.random.Generator(np.random.PCG64(seed))
        x = generator.uniform(-1, 1, options.samples)
        y = np.sin(np.pi * x) + options.noise * generator.standard_normal(options.samples)
        x, y = (array.astype(np.float32).reshape(-1, 1) for array in (x, y))
        train_count, validation_count = round(0.7 * options.samples), round(0.2 * options.samples)

        def make_split(begin: int, end: int | None) -> expfw.Split:
            return expfw.Split(x[begin:end], y[begin:end])

        return expfw.Splits(
            expfw.DataSpec(input_shape=(1,), output_shape=(1,)),
            train=make_split(0, min(train_count, options.limit or train_count)),
            validation=make_split(train_count, train_count + validation_count),
            test=make_split(train_count + validation_count, None),
        )
