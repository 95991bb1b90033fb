"""Metrics over the steps of runs, reduced to a number of points that can be drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from expfw.errors import JournalError
from expfw.system.input_files import open_file
from expfw.tracking import journal

T = TypeVar("T")
MAX_CURVES = 50
MAX_POINTS = 200


@dataclass(frozen=True)
class Curve:
    """One metric of one run; the best run has rank 0, and `number` is its number on the page."""

    number: int
    name: str
    rank: int
    steps: Sequence[int]
    values: Sequence[float]


def read_curves(
    ranked_runs: Sequence[tuple[int, str, Path]], metrics: Sequence[str]
) -> tuple[dict[str, list[Curve]], int]:
    """Reads the curves of the first `MAX_CURVES` runs.

    Args:
        ranked_runs: number on the page, name and folder of each run, best first.
        metrics: names of metrics.

    Returns:
        The curves by metric, only of metrics with more than one value in at least one run; and the number of runs whose
        journals cannot be read.
    """
    curves: dict[str, list[Curve]] = {metric: [] for metric in metrics}
    unreadable_count = 0
    for rank, (number, name, folder) in enumerate(ranked_runs[:MAX_CURVES]):
        path = folder / journal.NAME
        try:
            with open_file(path) as file:
                lines = file.readlines()
            points_by_metric = {metric: list(_parse_points(lines, metric, path)) for metric in metrics}
        except (JournalError, OSError):
            unreadable_count += 1
            continue
        for metric, points in points_by_metric.items():
            if points:
                steps, values = zip(*_select_evenly(points, MAX_POINTS), strict=True)
                curves[metric].append(Curve(number, name, rank, steps, values))
    return {m: lines for m, lines in curves.items() if any(len(line.steps) > 1 for line in lines)}, unreadable_count


def _parse_points(lines: Sequence[bytes], metric: str, path: Path) -> Iterator[tuple[int, float]]:
    """Yields step and value; parses only some records of a long journal, because 100,000 take a second."""
    name = json.dumps(metric).encode()
    metric_lines = [line for line in lines if name in line and line.endswith(b"\n")]
    data = b"".join(_select_evenly(metric_lines, 2 * MAX_POINTS))
    for point in journal.select_points(journal.parse_records(path, data, 0)):
        if metric in point.values:
            yield point.step, point.values[metric]


def _select_evenly(items: Sequence[T], max_count: int) -> Sequence[T]:
    """Returns at most `max_count` evenly spaced items, including the first and the last."""
    if len(items) <= max_count:
        return items
    return [items[index * (len(items) - 1) // (max_count - 1)] for index in range(max_count)]
