"""Points from options; by default ten points near a line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import expfw


class Line(expfw.Dataset):
    """Points (x, y) for a line fit. By default the ten of NTHU EE3700's linear regression, all for training."""

    @dataclass
    class Config:
        x: tuple[float, ...] = expfw.option((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), help="x of the training samples")
        y: tuple[float, ...] = expfw.option(
            (1.0, 1.3, 3.1, 2.0, 5.0, 6.3, 6.6, 7.4, 8.0, 9.0), help="y of the training samples"
        )
        x_validation: tuple[float, ...] = expfw.option((), help="x of the validation samples; by default none")
        y_validation: tuple[float, ...] = expfw.option((), help="y of the validation samples")

        def __post_init__(self) -> None:
            for suffix, x, y in (("", self.x, self.y), ("_validation", self.x_validation, self.y_validation)):
                if len(x) != len(y):
                    raise ValueError(f"x{suffix} has {len(x)} numbers and y{suffix} {len(y)}; expected equal lengths")
                if not all(map(math.isfinite, (*x, *y))):
                    raise ValueError(f"x{suffix} and y{suffix} have the values {[*x, *y]}; expected finite numbers")
            if not self.x:
                raise ValueError("x is empty; expected at least one number")

    def load(self, seed: int) -> expfw.Splits:
        options = self.config
        validation = _make_split(options.x_validation, options.y_validation) if options.x_validation else None
        spec = expfw.DataSpec(input_shape=(1,), output_shape=(1,))
        return expfw.Splits(spec, _make_split(options.x, options.y), validation)


def _make_split(x: tuple[float, ...], y: tuple[float, ...]) -> expfw.Split:
    return expfw.Split(np.array(x, np.float32).reshape(-1, 1), np.array(y, np.float32).reshape(-1, 1))
