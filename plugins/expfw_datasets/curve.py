"""A sine curve with noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import expfw


class Curve(expfw.Dataset):
    """y = sin(pi x) plus noise, x uniform in [-1, 1]: 70 % for training, 20 % for validation, 10 % for testing.

    The samples depend on the run's seed. Another `limit` or `noise` does not change x or the shape of the noise, so
    errors can be compared.
    """

    @dataclass
    class Config:
        samples: int = expfw.option(200, help="total number of samples of the three splits", at_least=10)
        noise: float = expfw.option(0.3, help="standard deviation of the noise", at_least=0)
        limit: int | None = expfw.option(None, help="maximum number of training samples", at_least=1)

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
