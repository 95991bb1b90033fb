"""Importance of each swept parameter for the objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from expfw.reports.html.parameters import Parameter

MIN_TRIALS = 8
"""With fewer trials, the shares are not reliable."""
_MAX_VALUES = 12
_MAX_RANGES = 8
_RELATIVE_TOLERANCE = 1e-9
Matrix: TypeAlias = "NDArray[np.float64]"


def compute_importance(
    parameters: Sequence[Parameter], objectives: Sequence[float]
) -> list[tuple[Parameter, float | None]]:
    """Computes the share of the differences between trials that each parameter explains alone, largest first.

    The shares are the main effects of a functional analysis of variance (first order: Hutter, Hoos and Leyton-Brown
    2014, "An efficient approach for assessing hyperparameter importance"), computed from the trials without a model.
    Least squares fits the ranks of the trials by a sum of one function for each parameter. The share of a parameter is
    the sum of squares of its function, divided by the total sum of squares. A parameter that only some trials have is
    compared among these trials.

    The contribution of noise is subtracted: the mean square of the residual times the trace of `Z'Z C`. `Z` contains
    the columns of the parameter; `C` is its block of the inverse of the normal equations. In a full grid this is the
    correction of epsilon squared (Kelley 1935): `k - 1` mean squares for `k` values.

    Ranks (Conover and Iman 1981, "Rank transformations as a bridge between parametric and nonparametric statistics")
    limit the weight of a diverged trial. Numbers that are rarely repeated are divided into ranges with equal numbers of
    trials.

    Returns:
        Parameters with their shares. A share is None if it cannot be computed: all trials have the same value, text
        values are rarely repeated, another parameter always changes with this one, or there are too few trials for the
        number of values.
    """
    _, level, counts = np.unique(np.asarray(objectives, dtype=float), return_inverse=True, return_counts=True)
    # Equal objectives share the mean of their ranks; the mean of all ranks is 0.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[level] - (len(level) + 1) / 2
    range_count = min(_MAX_RANGES, max(2, 1 + 2 * len(ranks) // (3 * max(1, len(parameters)))))
    columns = [_make_columns(parameter, range_count) for parameter in parameters]
    pairs = list(zip(parameters, _compute_shares(columns, ranks), strict=True))
    return sorted(pairs, key=lambda pair: -1.0 if pair[1] is None else pair[1], reverse=True)


def _make_columns(parameter: Parameter, range_count: int) -> Matrix:
    """Returns a column for each value or range except the first, with mean 0 over the trials that have a value.

    The columns are 0 for the other trials: whether a trial has a value is the effect of another parameter. There are no
    columns if the values cannot be compared.
    """
    values = np.array([np.nan if position is None else position for position in parameter.positions], dtype=float)
    has_value = ~np.isnan(values)
    limits = np.unique(values[has_value])
    is_repeated = len(limits) <= has_value.sum() / 2
    if parameter.numbers is not None and not (is_repeated and len(limits) <= _MAX_VALUES):
        limits = np.quantile(values[has_value], np.linspace(0, 1, range_count + 1)[1:-1])
    elif not is_repeated:
        limits = limits[:0]
    levels = np.searchsorted(limits, values)
    columns = np.asarray(levels[:, None] == np.unique(levels[has_value])[1:], dtype=float) * has_value[:, None]
    return np.asarray(columns - has_value[:, None] * columns.sum(axis=0) / has_value.sum(), dtype=float)


def _compute_shares(columns: Sequence[Matrix], ranks: Matrix) -> list[float | None]:
    no_shares: list[float | None] = [None] * len(columns)
    total = float(ranks @ ranks)
    if not total or not sum(column.shape[1] for column in columns):
        return no_shares
    design = np.concatenate(columns, axis=1)
    normal_matrix = design.T @ design
    inverse = np.linalg.pinv(normal_matrix, rcond=_RELATIVE_TOLERANCE, hermitian=True)
    projection = inverse @ normal_matrix  # the identity, except for effects that cannot be separated
    degrees_of_freedom = len(ranks) - 1 - round(np.trace(projection))
    if degrees_of_freedom < 1:
        return no_shares
    fit = inverse @ (design.T @ ranks)
    noise = float(np.sum((ranks - design @ fit) ** 2)) / degrees_of_freedom
    shares, begin = no_shares, 0
    for index, column in enumerate(columns):
        block = slice(begin, begin + column.shape[1])
        begin = block.stop
        if column.shape[1] and np.allclose(projection[block], np.eye(len(fit))[block], atol=1e-6):
            chance_sum = noise * float(np.sum((column.T @ column) * inverse[block, block]))
            share = (float(np.sum((column @ fit[block]) ** 2)) - chance_sum) / total
            shares[index] = min(max(share, 0.0), 1.0)
    return shares
