"""A dataset for expfw: `dataset=my_plugin`."""

from __future__ import annotations

from dataclasses import dataclass

import expfw
import numpy as np


class MyPlugin(expfw.Dataset):
    """Points on the arms of a spiral, a class for each arm, made from the run's seed: 70 % training, 20 %, 10 %."""

    @dataclass
    class Config:
        samples: int = expfw.option(1000, help="how many there are, of all three splits")
        arms: int = expfw.option(3, help="number of arms, and so of classes")
        noise: float = expfw.option(0.1, help="standard deviation of the angle, in radians")

        def __post_init__(self) -> None:
            if self.samples < 10 or self.arms < 2:
                raise ValueError(f"samples is {self.samples} and arms {self.arms}; expected at least 10 and 2")
            if not 0 <= self.noise < np.inf:
                raise ValueError(f"noise is {self.noise}; expected 0 or more")

    def load(self, seed: int) -> expfw.Splits:
        options = self.config
        generator = np.random.default_rng(seed)  # never a global one
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
