"""Whether two runs came to the same, to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expfw.api.model_state import read_arrays
from expfw.system.formatting import many
from expfw.tracking import journal

_MOST_SHOWN = 5
_WEIGHTS = Path("model") / "weights.safetensors"


@dataclass(frozen=True)
class Comparison:
    """What was compared, and the differences, a line each."""

    compared: str
    differences: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not self.differences

    @property
    def text(self) -> str:
        """For people."""
        if self.exact:
            return f"{self.compared} are the same to the bit"
        shown = [f"  {line}" for line in self.differences[:_MOST_SHOWN]]
        more = len(self.differences) - _MOST_SHOWN
        return "\n".join(
            [
                f"{many(len(self.differences), 'difference')} among {self.compared}:",
                *shown,
                *([f"  and {more} more"] if more > 0 else []),
            ]
        )


def compare(one: Path, other: Path, ends: Sequence[int] = ()) -> Comparison:
    """Every metric at every step, and the trained weights, of two runs' folders.

    Args:
        ends: steps at which the first had ended before it was trained longer; its tests there are left out.
    """
    points = [points_of(journal.points(folder / journal.NAME)) for folder in (one, other)]
    for key in [key for key in points[0] if key[0].startswith("test/") and key[1] in ends]:
        points[0].pop(key)
    weights = [read_arrays(f / _WEIGHTS) if (f / _WEIGHTS).exists() else {} for f in (one, other)]
    differences = [*other_points(*points), *other_arrays(*weights)]
    return Comparison(f"{counted(points[0])} and {len(weights[0])} arrays of weights", tuple(differences))


def points_of(points: Iterable[tuple[int, Mapping[str, float]]]) -> dict[tuple[str, int], list[float]]:
    """The values of each metric at each step; more than one where it was logged more than once."""
    found: dict[tuple[str, int], list[float]] = {}
    for step, values in points:
        for name, value in values.items():
            found.setdefault((name, step), []).append(value)
    return found


def counted(points: Mapping[tuple[str, int], list[float]]) -> str:
    """How much there is to compare."""
    values, metrics = sum(map(len, points.values())), len({name for name, _ in points})
    return f"{many(values, 'value')} of {many(metrics, 'metric')}"


def other_points(
    one: Mapping[tuple[str, int], list[float]], other: Mapping[tuple[str, int], list[float]]
) -> Iterable[str]:
    """The points in which they differ."""
    for key in sorted(one.keys() | other.keys(), key=lambda key: (key[1], key[0])):
        a, b = one.get(key, []), other.get(key, [])
        if not np.array_equal(a, b, equal_nan=True):
            yield f"{key[0]} at step {key[1]}: {_shown(a)} and {_shown(b)}"


def other_arrays(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> Iterable[str]:
    """The arrays in which they differ, in any bit."""
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            yield f"the array {name} is only in one"
        elif one[name].dtype != other[name].dtype or one[name].shape != other[name].shape:
            yield f"the array {name} is {one[name].dtype} {one[name].shape} and {other[name].dtype} {other[name].shape}"
        elif one[name].tobytes() != other[name].tobytes():
            count = np.count_nonzero(one[name] != other[name])
            yield f"the array {name} differs in {count} of {one[name].size} elements"


def _shown(values: list[float]) -> str:
    return ", ".join(map(repr, values)) or "absent"
