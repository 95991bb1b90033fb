"""The order of the samples in an epoch."""

from __future__ import annotations

import numpy as np


def make_permutation(seed: int, epoch: int, sample_count: int) -> np.ndarray:
    """Returns the order of the samples in an epoch, int32 `(samples,)`; a pure function of seed and epoch."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(sample_count).astype(np.int32)
