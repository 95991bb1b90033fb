"""How long a sweep will take, reckoned from what its models took for a moment."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from expfw.preview.measuring import Measured
from expfw.settings import RunConfig


def steps(config: RunConfig, epoch: int) -> int:
    """Optimizer steps of a training. Args: epoch: steps in an epoch."""
    return config.train.steps or config.train.epochs * epoch


def evaluations(config: RunConfig, epoch: int) -> int:
    """How often it is evaluated on the validation data, once at the end in any case."""
    every, total = config.train.evaluate_every, steps(config, epoch)
    if every.steps is not None:
        return math.ceil(total / every.steps)
    return max(1, math.ceil(total / (every.epochs * epoch))) if every.epochs is not None else 1


def trial_seconds(config: RunConfig, measured: Measured) -> float:
    """Of one trial that trains to its end, callbacks left out."""
    training = steps(config, measured.epoch) * measured.step
    return measured.setup + training + evaluations(config, measured.epoch) * measured.evaluation + measured.ending


def sweep_seconds(trials: Sequence[float], slots: int, server: float) -> float:
    """Of trials that begin one after the other, each as soon as a slot is free.

    Args:
        server: until the first begins.
    """
    if not trials:
        return 0.0
    free = [server] * slots
    for seconds in trials:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
