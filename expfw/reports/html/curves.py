"""Metrics over the steps of trials or runs, reduced to a number of points that can be drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import JournalError
from expfw.tracking import journal
from expfw.tracking.ledger import Trial

MAX_CURVES = 50
MAX_POINTS = 200
_MAX_RECORDS = 2 * MAX_POINTS


@dataclass(frozen=True)
class CurveSource:
    """A run to draw.

    Attributes:
        number: number of the run on the page.
        name: name of the run on the page.
        folder: run folder.
    """

    number: int
    name: str
    folder: Path


@dataclass(frozen=True)
class Curve:
    """One metric of one run.

    Attributes:
        source: the run.
        rank: rank of the run among those that were read; 0 for the best.
        steps: step of each point.
        values: value of each point.
    """

    source: CurveSource
    rank: int
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Curves:
    """Metrics from the journals of several runs.

    Attributes:
        curves_by_metric: curves by metric; only metrics with more than one value in at least one run.
        run_count: number of runs that were read.
        unreadable_count: number of these runs with unreadable journals.
    """

    curves_by_metric: Mapping[str, Sequence[Curve]]
    run_count: int
    unreadable_count: int


def read_trial_curves(sweep_folder: Path, ranked_trials: Sequence[Trial], metrics: Sequence[str]) -> Curves:
    """Reads the curves of the first `MAX_CURVES` trials that have a folder."""
    started_trials = [(trial, Path(trial.folder).name) for trial in ranked_trials if trial.folder is not None]
    trials_folder = sweep_folder / "trials"  # the sweep folder may have been moved
    return read_run_curves(
        [CurveSource(trial.number, trial.name, trials_folder / name) for trial, name in started_trials], metrics
    )


def read_run_curves(ranked_sources: Sequence[CurveSource], metrics: Sequence[str]) -> Curves:
    """Reads the curves of the first `MAX_CURVES` runs."""
    sources = ranked_sources[:MAX_CURVES]
    curves_by_metric: dict[str, list[Curve]] = {metric: [] for metric in metrics}
    unreadable = 0
    for rank, source in enumerate(sources):
        path = source.folder / journal.NAME
        try:
            lines = path.read_bytes().splitlines(keepends=True)
            points_by_metric = {metric: _parse_points(lines, metric, path) for metric in metrics}
        except (JournalError, OSError):
            unreadable += 1
            continue
        for metric, pairs in points_by_metric.items():
            if pairs:
                kept_points = [pairs[index] for index in select_evenly(len(pairs), MAX_POINTS)]
                curves_by_metric[metric].append(
                    Curve(source, rank, [step for step, _ in kept_points], [value for _, value in kept_points])
                )
    drawable_curves = {
        metric: curves for metric, curves in curves_by_metric.items() if any(len(curve.steps) > 1 for curve in curves)
    }
    return Curves(drawable_curves, len(sources), unreadable)


def _parse_points(lines: Sequence[bytes], metric: str, path: Path) -> list[tuple[int, float]]:
    """Returns pairs of step and value; parses only some records of a long journal, because 100,000 take a second."""
    name = json.dumps(metric).encode()
    metric_lines = [line for line in lines if name in line and line.endswith(b"\n")]
    data = b"".join(metric_lines[index] for index in select_evenly(len(metric_lines), _MAX_RECORDS))
    return [(step, values[metric]) for step, values in journal.parse_points(data, path, 0) if metric in values]


def select_evenly(count: int, max_count: int) -> list[int]:
    """Returns the indices of at most `max_count` evenly spaced points, including the first and the last."""
    if count <= max_count:
        return list(range(count))
    return [index * (count - 1) // (max_count - 1) for index in range(max_count)]
