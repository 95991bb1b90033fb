"""How much each swept parameter alone tells about which trials are good."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expfw.parameters import Parameter

FEWEST_TRIALS = 8
"""With fewer, the shares say little."""
_MOST_LEVELS = 12


def importance(
    parameters: Sequence[Parameter], objective: Sequence[float | None], mode: str
) -> list[tuple[Parameter, float | None]]:
    """The share of the differences between trials that goes with each parameter alone, largest first.

    The first order of a functional analysis of variance (Hutter, Hoos and Leyton-Brown 2014, "An efficient approach for
    assessing hyperparameter importance"), computed from the trials themselves and not from a model of them: the sum of
    squares between the values of the parameter over the total sum of squares. It is computed on ranks (Conover and Iman
    1981, "Rank transformations as a bridge between parametric and nonparametric statistics"), so that one diverged
    trial does not outweigh all others, and one whose objective is no number counts as the worst. From each sum of
    squares goes what its `k` values would have by chance, `(k - 1)` mean squares of the residual of all main effects
    together (epsilon squared, Kelley 1935), so that a parameter that does nothing comes out near 0 whatever the number
    of its values. Numbers that are hardly ever repeated are cut into ranges of equally many trials. A parameter that
    only some trials have is compared among these; the share is of the differences between all.

    Args:
        objective: of each trial; None for those that do not count.

    Returns:
        None as the share where nothing can be said: less than two values, or words that are hardly ever repeated.
    """
    counted = [index for index, value in enumerate(objective) if value is not None]
    ranks = _ranks([_loss(objective[index], mode) for index in counted])
    total = float(np.sum((ranks - ranks.mean()) ** 2)) if len(counted) else 0.0
    levels = [_levels(parameter, counted) for parameter in parameters]
    noise = _mean_residual(ranks, [level for level in levels if level is not None])
    shares = [None if level is None or not total else _share(ranks, level, total, noise) for level in levels]
    pairs = list(zip(parameters, shares, strict=True))
    return sorted(pairs, key=lambda pair: -1.0 if pair[1] is None else pair[1], reverse=True)


def _loss(value: float | None, mode: str) -> float:
    assert value is not None
    signed = value if mode == "min" else -value
    return math.inf if math.isnan(value) else signed


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """From 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(last - (counts - 1) / 2, dtype=float)[inverse]


def _levels(parameter: Parameter, counted: Sequence[int]) -> NDArray[np.int64] | None:
    """The value of each trial as a number from 0, -1 where it has none; None where the values cannot be compared."""
    present = [place for index in counted if (place := parameter.places[index]) is not None]
    distinct = sorted(set(present))
    if len(distinct) < 2:
        return None
    if len(distinct) > min(_MOST_LEVELS, len(present) / 2):
        if parameter.numbers is None:
            return None if len(distinct) > len(present) / 2 else _numbered(parameter, counted, distinct)
        bins = min(8, max(2, len(present) // 4))
        edges = np.quantile(present, np.linspace(0, 1, bins + 1)[1:-1])
        return np.array([_bin(edges, parameter.places[index]) for index in counted])
    return _numbered(parameter, counted, distinct)


def _numbered(parameter: Parameter, counted: Sequence[int], distinct: Sequence[float]) -> NDArray[np.int64]:
    number = {place: n for n, place in enumerate(distinct)}
    return np.array([-1 if (p := parameter.places[index]) is None else number[p] for index in counted])


def _bin(edges: NDArray[np.float64], place: float | None) -> int:
    return -1 if place is None else int(np.searchsorted(edges, place, side="left"))


def _mean_residual(ranks: NDArray[np.float64], levels: Sequence[NDArray[np.int64]]) -> float:
    """Mean square of what all main effects together leave; 0 where they can explain anything."""
    if not len(ranks):
        return 0.0
    columns = [level == value for level in levels for value in np.unique(level)]
    design = np.column_stack([np.ones(len(ranks)), *columns]).astype(float)
    solution, _, rank, _ = np.linalg.lstsq(design, ranks, rcond=None)
    left = len(ranks) - int(rank)
    return float(np.sum((ranks - design @ solution) ** 2)) / left if left > 0 else 0.0


def _share(ranks: NDArray[np.float64], levels: NDArray[np.int64], total: float, noise: float) -> float:
    have = levels >= 0
    mean = ranks[have].mean()
    groups = [ranks[levels == value] for value in np.unique(levels[have])]
    between = sum(len(group) * (group.mean() - mean) ** 2 for group in groups)
    return float(np.clip((between - (len(groups) - 1) * noise) / total, 0.0, 1.0))
