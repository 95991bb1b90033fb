"""Metrics over the steps of a sweep's trials, few enough points to be drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import JournalError
from expfw.tracking import journal
from expfw.tracking.ledger import Trial

MOST_CURVES = 50
MOST_POINTS = 200
_MOST_RECORDS = 2 * MOST_POINTS


@dataclass(frozen=True)
class Source:
    """A run: its number on the page, what it is called there, and its folder."""

    number: int
    name: str
    folder: Path


@dataclass(frozen=True)
class Curve:
    """One metric of one run; `place` is the run's among those that were read, the best being 0."""

    run: Source
    place: int
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Curves:
    """What the journals of some runs say.

    Attributes:
        by_metric: only metrics that some run has more than one value of.
        runs: how many runs were looked at; unreadable: how many of their journals cannot be read.
    """

    by_metric: Mapping[str, Sequence[Curve]]
    runs: int
    unreadable: int


def read(sweep_folder: Path, best_first: Sequence[Trial], metrics: Sequence[str]) -> Curves:
    """The curves of the first trials that have a folder."""
    begun = [(trial, Path(trial.folder).name) for trial in best_first if trial.folder is not None]
    trials = sweep_folder / "trials"  # the whole folder may have been moved
    return of_runs([Source(trial.number, trial.name, trials / name) for trial, name in begun], metrics)


def of_runs(best_first: Sequence[Source], metrics: Sequence[str]) -> Curves:
    """The curves of the first of these runs."""
    sources = best_first[:MOST_CURVES]
    found: dict[str, list[Curve]] = {metric: [] for metric in metrics}
    unreadable = 0
    for place, source in enumerate(sources):
        path = source.folder / journal.NAME
        try:
            lines = path.read_bytes().splitlines(keepends=True)
            points = {metric: _points(lines, metric, path) for metric in metrics}
        except (JournalError, OSError):
            unreadable += 1
            continue
        for metric, pairs in points.items():
            if pairs:
                kept = [pairs[index] for index in thinned(len(pairs), MOST_POINTS)]
                found[metric].append(Curve(source, place, [step for step, _ in kept], [value for _, value in kept]))
    drawn = {metric: curves for metric, curves in found.items() if any(len(curve.steps) > 1 for curve in curves)}
    return Curves(drawn, len(sources), unreadable)


def _points(lines: Sequence[bytes], metric: str, path: Path) -> list[tuple[int, float]]:
    """Step and value; of a long journal only some records are parsed, for a hundred thousand take a second."""
    name = json.dumps(metric).encode()
    holding = [line for line in lines if name in line and line.endswith(b"\n")]
    chosen = b"".join(holding[index] for index in thinned(len(holding), _MOST_RECORDS))
    return [(step, values[metric]) for step, values in journal.points_in(chosen, path, 0) if metric in values]


def thinned(count: int, most: int) -> list[int]:
    """Which of so many points are kept: evenly spaced ones, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [index * (count - 1) // (most - 1) for index in range(most)]
