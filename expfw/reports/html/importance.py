"""How much each swept parameter alone tells about which trials are good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from expfw.reports.html.parameters import Parameter

FEWEST_TRIALS = 8
"""With fewer, the shares say little."""
_MOST_VALUES = 12
_MOST_COLUMNS = 240
_TINY = 1e-9
Levels: TypeAlias = "NDArray[np.int64]"
Matrix: TypeAlias = "NDArray[np.float64]"


def importance(
    parameters: Sequence[Parameter], objective: Sequence[float | None], mode: str
) -> list[tuple[Parameter, float | None]]:
    """The share of the differences between trials that goes with each parameter alone, largest first.

    The main effects of a functional analysis of variance (its first order: Hutter, Hoos and Leyton-Brown 2014, "An
    efficient approach for assessing hyperparameter importance"), here of the trials themselves and not of a model
    trained on them: ranks are fitted by a sum of one function of each parameter, by least squares, and the share of a
    parameter is the sum of squares of its function over the total. From it goes what noise alone adds to it, the
    residual's mean square times the trace of `Z'Z C`, `Z` being the columns of the parameter and `C` its block of the
    inverse of the normal equations; in a full grid that is the correction of epsilon squared (Kelley 1935), `k - 1`
    mean squares for `k` values.

    It is computed on ranks (Conover and Iman 1981, "Rank transformations as a bridge between parametric and
    nonparametric statistics"), so that one diverged trial does not outweigh all others; one whose objective is no
    number ranks last. Numbers that are hardly ever repeated are cut into ranges of equally many trials. A parameter
    that only some trials have is compared among these, and its share is still of the differences between all.

    Args:
        objective: of each trial; None for those that do not count.

    Returns:
        None as the share where nothing can be said: all have the same value, words are hardly ever repeated, another
        parameter always changes with it, or there are too few trials for so many values.
    """
    counted = [index for index, value in enumerate(objective) if value is not None]
    ranks = _ranks([_loss(objective[index], mode) for index in counted])
    total = float(ranks @ ranks)
    columns = _columns([[parameter.places[index] for index in counted] for parameter in parameters], parameters)
    shares = _shares(columns, ranks, total) if total else [None] * len(parameters)
    pairs = list(zip(parameters, shares, strict=True))
    return sorted(pairs, key=lambda pair: -1.0 if pair[1] is None else pair[1], reverse=True)


def _loss(value: float | None, mode: str) -> float:
    assert value is not None
    return math.inf if math.isnan(value) else value if mode == "min" else -value


def _ranks(values: Sequence[float]) -> Matrix:
    """Their mean is 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[inverse] - (len(values) + 1) / 2, dtype=float)


def _columns(places: Sequence[Sequence[float | None]], parameters: Sequence[Parameter]) -> list[Matrix | None]:
    """Of each parameter; numbers in as many ranges as the trials are enough for."""
    most = min(_MOST_COLUMNS, 2 * len(places[0]) // 3) if places else 0
    for ranges in (8, 6, 5, 4, 3, 2):
        pairs = zip(places, parameters, strict=True)
        levels = [_levels(column, parameter.numbers is not None, ranges) for column, parameter in pairs]
        if sum(level.max() for level in levels if level is not None) <= most:
            break
    return [None if level is None else _centred(level) for level in levels] if places else []


def _levels(places: Sequence[float | None], numeric: bool, ranges: int) -> Levels | None:
    """Which value each trial has, from 0; -1 for none. None where the values cannot be compared."""
    given = np.array([math.nan if place is None else place for place in places], dtype=float)
    absent = np.isnan(given)
    distinct, present = np.unique(given[~absent]), int(np.sum(~absent))
    if len(distinct) < 2:
        return None
    repeated = len(distinct) <= present / 2
    if not numeric and not repeated:
        return None
    if numeric and not (repeated and len(distinct) <= _MOST_VALUES):
        distinct = np.quantile(given[~absent], np.linspace(0, 1, ranges + 1)[1:-1])
    return np.where(absent, -1, np.searchsorted(distinct, given))


def _centred(levels: Levels) -> Matrix:
    """A column for each value but the first, with mean 0 over the trials that have one, and 0 for the others.

    So they say nothing about whether a trial has one: that is the effect of another parameter.
    """
    have = (levels >= 0).astype(float)
    columns = (levels[:, None] == np.unique(levels[levels >= 0])[1:]).astype(float)
    return np.asarray(columns - have[:, None] * (columns.sum(axis=0) / have.sum()), dtype=float)


def _shares(columns: Sequence[Matrix | None], ranks: Matrix, total: float) -> list[float | None]:
    known = [column for column in columns if column is not None and column.shape[1]]
    nothing: list[float | None] = [None] * len(columns)
    if not known:
        return nothing
    design = np.concatenate(known, axis=1)
    sizes, axes = np.linalg.eigh(design.T @ design)
    kept = sizes > _TINY * sizes.max()
    free = len(ranks) - 1 - int(kept.sum())
    if free < 1:
        return nothing
    inverse = (axes[:, kept] / sizes[kept]) @ axes[:, kept].T
    found = axes[:, kept] @ axes[:, kept].T  # the identity, but for what cannot be told apart
    fit = inverse @ (design.T @ ranks)
    noise = float(np.sum((ranks - design @ fit) ** 2)) / free
    shares, begin = nothing, 0
    for index, column in enumerate(columns):
        if column is None or not column.shape[1]:
            continue
        own = slice(begin, begin + column.shape[1])
        begin = own.stop
        if np.allclose(found[own], np.eye(len(fit))[own], atol=1e-6):
            by_chance = noise * float(np.sum((column.T @ column) * inverse[own, own]))
            share = (float(np.sum((column @ fit[own]) ** 2)) - by_chance) / total
            shares[index] = min(max(share, 0.0), 1.0)
    return shares
