"""Importance of each swept parameter for the objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from expfw.reports.html.parameters import Parameter

MIN_TRIALS = 8
"""With fewer trials, the shares are not reliable."""
_MAX_VALUES = 12
_MAX_COLUMNS = 240
_RELATIVE_TOLERANCE = 1e-9
Levels: TypeAlias = "NDArray[np.int64]"
Matrix: TypeAlias = "NDArray[np.float64]"


def compute_importance(
    parameters: Sequence[Parameter], objectives: Sequence[float | None], mode: str
) -> list[tuple[Parameter, float | None]]:
    """Computes the share of the differences between trials that each parameter explains alone, largest first.

    The shares are the main effects of a functional analysis of variance (first order: Hutter, Hoos and Leyton-Brown
    2014, "An efficient approach for assessing hyperparameter importance"). They are computed from the trials, not from
    a model trained on the trials. Least squares fits the ranks of the trials by a sum of one function for each
    parameter. The share of a parameter is the sum of squares of its function, divided by the total sum of squares.

    The contribution of noise is subtracted: the mean square of the residual times the trace of `Z'Z C`. `Z` contains
    the columns of the parameter; `C` is its block of the inverse of the normal equations. In a full grid this is the
    correction of epsilon squared (Kelley 1935): `k - 1` mean squares for `k` values.

    Ranks (Conover and Iman 1981, "Rank transformations as a bridge between parametric and nonparametric statistics")
    limit the weight of a diverged trial. A trial whose objective is not a number ranks last. Numbers that are rarely
    repeated are divided into ranges with equal numbers of trials. A parameter that only some trials have is compared
    among these trials; its share still refers to the differences between all trials.

    Args:
        parameters: swept parameters.
        objectives: objective of each trial; None for trials that do not count.
        mode: `min` or `max`.

    Returns:
        Parameters with their shares. A share is None if it cannot be computed: all trials have the same value, text
        values are rarely repeated, another parameter always changes with this one, or there are too few trials for the
        number of values.
    """
    counted_indices = [index for index, value in enumerate(objectives) if value is not None]
    ranks = _compute_ranks([_compute_loss(objectives[index], mode) for index in counted_indices])
    total = float(ranks @ ranks)
    columns = _make_columns(
        [[parameter.axis_values[index] for index in counted_indices] for parameter in parameters], parameters
    )
    shares = _compute_shares(columns, ranks, total) if total else [None] * len(parameters)
    pairs = list(zip(parameters, shares, strict=True))
    return sorted(pairs, key=lambda pair: -1.0 if pair[1] is None else pair[1], reverse=True)


def _compute_loss(value: float | None, mode: str) -> float:
    assert value is not None
    return math.inf if math.isnan(value) else value if mode == "min" else -value


def _compute_ranks(values: Sequence[float]) -> Matrix:
    """Returns ranks with mean 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(mean_ranks[inverse] - (len(values) + 1) / 2, dtype=float)


def _make_columns(
    axis_values: Sequence[Sequence[float | None]], parameters: Sequence[Parameter]
) -> list[Matrix | None]:
    """Returns the columns of each parameter; divides numbers into as many ranges as the number of trials allows."""
    max_columns = min(_MAX_COLUMNS, 2 * len(axis_values[0]) // 3) if axis_values else 0
    for range_count in (8, 6, 5, 4, 3, 2):
        pairs = zip(axis_values, parameters, strict=True)
        levels = [_assign_levels(column, parameter.numbers is not None, range_count) for column, parameter in pairs]
        if sum(level.max() for level in levels if level is not None) <= max_columns:
            break
    return [None if level is None else _center_levels(level) for level in levels] if axis_values else []


def _assign_levels(axis_values: Sequence[float | None], is_numeric: bool, range_count: int) -> Levels | None:
    """Returns the level of each trial, from 0; -1 if it has no value. None if the values cannot be compared."""
    values = np.array([math.nan if value is None else value for value in axis_values], dtype=float)
    is_absent = np.isnan(values)
    distinct, present_count = np.unique(values[~is_absent]), int(np.sum(~is_absent))
    if len(distinct) < 2:
        return None
    is_repeated = len(distinct) <= present_count / 2
    if not is_numeric and not is_repeated:
        return None
    if is_numeric and not (is_repeated and len(distinct) <= _MAX_VALUES):
        distinct = np.quantile(values[~is_absent], np.linspace(0, 1, range_count + 1)[1:-1])
    return np.where(is_absent, -1, np.searchsorted(distinct, values))


def _center_levels(levels: Levels) -> Matrix:
    """Returns a column for each level except the first, with mean 0 over trials with a value and 0 for the others.

    The columns do not encode whether a trial has a value: that is the effect of another parameter.
    """
    has_value = (levels >= 0).astype(float)
    columns = (levels[:, None] == np.unique(levels[levels >= 0])[1:]).astype(float)
    return np.asarray(columns - has_value[:, None] * (columns.sum(axis=0) / has_value.sum()), dtype=float)


def _compute_shares(columns: Sequence[Matrix | None], ranks: Matrix, total: float) -> list[float | None]:
    known_columns = [column for column in columns if column is not None and column.shape[1]]
    no_shares: list[float | None] = [None] * len(columns)
    if not known_columns:
        return no_shares
    design = np.concatenate(known_columns, axis=1)
    eigenvalues, eigenvectors = np.linalg.eigh(design.T @ design)
    is_kept = eigenvalues > _RELATIVE_TOLERANCE * eigenvalues.max()
    degrees_of_freedom = len(ranks) - 1 - int(is_kept.sum())
    if degrees_of_freedom < 1:
        return no_shares
    inverse = (eigenvectors[:, is_kept] / eigenvalues[is_kept]) @ eigenvectors[:, is_kept].T
    projection = (
        eigenvectors[:, is_kept] @ eigenvectors[:, is_kept].T
    )  # the identity, except for effects that cannot be separated
    fit = inverse @ (design.T @ ranks)
    noise = float(np.sum((ranks - design @ fit) ** 2)) / degrees_of_freedom
    shares, begin = no_shares, 0
    for index, column in enumerate(columns):
        if column is None or not column.shape[1]:
            continue
        block = slice(begin, begin + column.shape[1])
        begin = block.stop
        if np.allclose(projection[block], np.eye(len(fit))[block], atol=1e-6):
            chance_sum = noise * float(np.sum((column.T @ column) * inverse[block, block]))
            share = (float(np.sum((column @ fit[block]) ** 2)) - chance_sum) / total
            shares[index] = min(max(share, 0.0), 1.0)
    return shares
