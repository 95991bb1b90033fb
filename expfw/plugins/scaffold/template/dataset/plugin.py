"""A dataset for expfw: `dataset=my_plugin`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import expfw
import numpy as np


class MyPlugin(expfw.Dataset):
    """Points on the arms of a spiral, one class per arm.

    The points depend on the run's seed. 70 % are for training, 20 % for validation and 10 % for testing.
    """

    @dataclass
    class Config:
        samples: int = expfw.option(1000, help="total number of samples of the three splits", at_least=10)
        arms: int = expfw.option(3, help="number of arms, which is the number of classes", at_least=2)
        noise: float = expfw.option(
            0.1, help="standard deviation of the angle, in radians", at_least=0, less_than=math.inf
        )

    def load(self, seed: int) -> expfw.Splits:
        options = self.config
        generator = np.random.default_rng(seed)  # never use a global generator
        arm = generator.integers(options.arms, size=options.samples)
        radius = generator.uniform(0.1, 1, options.samples)
        noise = options.noise * generator.normal(size=options.samples)
        angle = np.pi * radius + 2 * np.pi * arm / options.arms + noise
        x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
        y = arm.astype(np.int32)

        first, second = int(0.7 * len(x)), int(0.9 * len(x))
        return expfw.Splits(
            expfw.DataSpec(input_shape=(2,), classes=options.arms),
            train=expfw.Split(x[:first], y[:first]),
            validation=expfw.Split(x[first:second], y[first:second]),
            test=expfw.Split(x[second:], y[second:]),
        )
