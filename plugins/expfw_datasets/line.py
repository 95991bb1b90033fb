"""Ten points near a line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import expfw

X = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
Y = [1.0, 1.3, 3.1, 2.0, 5.0, 6.3, 6.6, 7.4, 8.0, 9.0]


class Line(expfw.Dataset):
    """The ten points of NTHU EE3700's linear regression: x from 0 to 9, y near a line. Training data only."""

    @dataclass
    class Config:
        pass

    def load(self, seed: int) -> expfw.Splits:
        x = np.array(X, np.float32).reshape(-1, 1)
        y = np.array(Y, np.float32).reshape(-1, 1)
        return expfw.Splits(expfw.DataSpec(input_shape=(1,), output_shape=(1,)), expfw.Split(x, y))
