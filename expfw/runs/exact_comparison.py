"""Bit-for-bit comparison of the metrics and weights of two runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expfw.api.model_state import read_arrays
from expfw.system.formatting import pluralize
from expfw.tracking import journal

_MAX_LISTED_DIFFERENCES = 5
_WEIGHTS = Path("model") / "weights.safetensors"


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        subject: the compared runs, values and arrays, for messages.
        differences: one line per difference.
    """

    subject: str
    differences: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        return not self.differences

    @property
    def text(self) -> str:
        """Readable text of the result."""
        if self.is_exact:
            return f"{self.subject} are bit-identical"
        lines = [f"  {line}" for line in self.differences[:_MAX_LISTED_DIFFERENCES]]
        unlisted_count = len(self.differences) - _MAX_LISTED_DIFFERENCES
        return "\n".join(
            [
                f"{self.subject} have {pluralize(len(self.differences), 'difference')}:",
                *lines,
                *([f"  and {unlisted_count} more"] if unlisted_count > 0 else []),
            ]
        )


def compare_runs(first: Path, second: Path, end_steps: Sequence[int] = ()) -> Comparison:
    """Compares every metric at every step, and the trained weights, of two run folders.

    Args:
        first: folder of the first run.
        second: folder of the second run.
        end_steps: steps at which the first run had ended before it was trained longer; its test metrics at these steps
            are not compared.
    """
    points = [group_points(journal.read_points(folder / journal.NAME)) for folder in (first, second)]
    for key in [key for key in points[0] if key[0].startswith("test/") and key[1] in end_steps]:
        points[0].pop(key)
    weights = [read_arrays(f / _WEIGHTS) if (f / _WEIGHTS).exists() else {} for f in (first, second)]
    differences = [*compare_points(*points), *compare_arrays(*weights)]
    return Comparison(f"{format_counts(points[0])} and {len(weights[0])} arrays of weights", tuple(differences))


def group_points(points: Iterable[tuple[int, Mapping[str, float]]]) -> dict[tuple[str, int], list[float]]:
    """Returns the values of each metric at each step; several values if it was logged several times."""
    values_by_key: dict[tuple[str, int], list[float]] = {}
    for step, values in points:
        for name, value in values.items():
            values_by_key.setdefault((name, step), []).append(value)
    return values_by_key


def format_counts(points: Mapping[tuple[str, int], list[float]]) -> str:
    """Returns the number of values and metrics as text."""
    values, metrics = sum(map(len, points.values())), len({name for name, _ in points})
    return f"{pluralize(values, 'value')} of {pluralize(metrics, 'metric')}"


def compare_points(
    first: Mapping[tuple[str, int], list[float]], second: Mapping[tuple[str, int], list[float]]
) -> Iterable[str]:
    """Yields one line for each point that differs."""
    for key in sorted(first.keys() | second.keys(), key=lambda key: (key[1], key[0])):
        a, b = first.get(key, []), second.get(key, [])
        if not np.array_equal(a, b, equal_nan=True):
            yield f"{key[0]} at step {key[1]}: {_format_values(a)} and {_format_values(b)}"


def compare_arrays(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> Iterable[str]:
    """Yields one line for each array that differs in any bit."""
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            yield f"array {name} exists in only one of them"
        elif first[name].dtype != second[name].dtype or first[name].shape != second[name].shape:
            yield (
                f"array {name} is {first[name].dtype} {first[name].shape} and {second[name].dtype} {second[name].shape}"
            )
        elif first[name].tobytes() != second[name].tobytes():
            count = np.count_nonzero(first[name] != second[name])
            yield f"array {name} differs in {count} of {first[name].size} elements"


def _format_values(values: list[float]) -> str:
    return ", ".join(map(repr, values)) or "absent"
