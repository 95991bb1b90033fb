"""Space of a sweep: its dimensions, some of them conditional on the values of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from expfw.errors import ConfigError
from expfw.redaction import HIDDEN, redact_overrides

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Interval:
    """Interval of numbers, with both ends included; of whole numbers if `low` is an int."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Dimension:
    """The key of an override and its possible values.

    Attributes:
        key: key as in the override, with `+` and package.
        values: texts of the values, a range of whole numbers, or an interval.
        is_swept: whether the value can differ between trials.
        branches: dimensions that exist only with a certain value, by the text of this value.
        condition: values of other dimensions that it depends on, from the outermost to the nearest.
    """

    key: str
    values: Sequence[str] | range | Interval
    is_swept: bool
    branches: Mapping[str, tuple[Dimension, ...]] = field(default_factory=dict)
    condition: tuple[str, ...] = ()

    @property
    def plain_key(self) -> str:
        """Key without `+`."""
        return self.key.lstrip("+")

    @property
    def has_choice(self) -> bool:
        """Whether it has several values."""
        return isinstance(self.values, Interval) or len(self.values) > 1

    @property
    def discrete_values(self) -> Sequence[str] | range:
        """Its values; raises ConfigError if it is an interval, which has no list of values."""
        if isinstance(self.values, Interval):
            raise ConfigError(
                f"{self.key} is an interval; a grid needs a list of values, such as "
                f"{self.key}={self.values.low:g},{self.values.high:g}; use such a list or "
                "another sweep.sampler, such as tpe or random"
            )
        return self.values

    @cached_property
    def size(self) -> int:
        """Number of combinations of its values, including their branches."""
        if not self.branches:
            return len(self.discrete_values)
        return sum(count_combinations(self.branches.get(str(value), ())) for value in self.discrete_values)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Labels by text of a value, to record it: the text itself, except for secrets, which are numbered."""
        texts = dict.fromkeys(map(str, self.discrete_values))
        if isinstance(self.values, range):
            return {text: text for text in texts}
        return {
            text: text if redact_overrides([f"{self.key}={text}"]) == [f"{self.key}={text}"] else f"{HIDDEN} {number}"
            for number, text in enumerate(texts)
        }

    def find_text(self, value: Any) -> str:
        """Returns the text of a value of its distribution."""
        is_label = not isinstance(self.values, (Interval, range))
        return next((text for text, label in self.labels.items() if label == value), "") if is_label else str(value)

    @cached_property
    def distribution(self) -> BaseDistribution:
        """Its Optuna distribution: categorical for a list of values, integer for a range of whole numbers."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        values = self.values
        if isinstance(values, range):
            return IntDistribution(min(values), max(values), step=abs(values.step))
        if not isinstance(values, Interval):
            return CategoricalDistribution(tuple(self.labels.values()))
        if isinstance(values.low, int):
            return IntDistribution(values.low, int(values.high), log=values.log)
        return FloatDistribution(values.low, values.high, log=values.log)


def count_combinations(dimensions: Iterable[Dimension]) -> int:
    """Returns the number of combinations of these dimensions, without creating them."""
    return math.prod(dimension.size for dimension in dimensions)


@dataclass(frozen=True)
class Space:
    """All overrides of a sweep: fixed ones, which every trial has, and swept ones, in their order.

    In a grid, each combination has a number; the last dimension varies fastest. Conditional dimensions come directly
    after the dimension that they depend on.
    """

    dimensions: tuple[Dimension, ...]

    @cached_property
    def total(self) -> int:
        """Number of combinations; raises ConfigError if the space has an interval."""
        return count_combinations(self.dimensions)

    def get_overrides(self, number: int) -> list[str]:
        """Returns all overrides of the combination with this number, from 0."""
        remaining_number = number

        def choose(dimension: Dimension, rest: Sequence[Dimension]) -> str:
            nonlocal remaining_number
            rest_size = count_combinations(rest)
            if not dimension.branches:
                index, remaining_number = divmod(remaining_number, rest_size)
                return str(dimension.discrete_values[index])
            for text in map(str, dimension.discrete_values):
                size = count_combinations(dimension.branches.get(text, ())) * rest_size
                if remaining_number < size:
                    return text
                remaining_number -= size
            raise IndexError(f"combination {number} of {self.total}")

        return self.choose_overrides(choose)

    def choose_overrides(self, choose: Callable[[Dimension, Sequence[Dimension]], str]) -> list[str]:
        """Returns all overrides of a trial.

        Args:
            choose: returns the text of a value for a dimension with several values; called in order, only for
                dimensions that this trial has. Its second argument contains the dimensions after this one and its
                branches.
        """
        overrides, rest = [], list(self.dimensions)
        while rest:
            dimension = rest.pop(0)
            text = choose(dimension, rest) if dimension.has_choice else str(dimension.discrete_values[0])
            overrides.append(f"{dimension.key}={text}")
            rest[:0] = dimension.branches.get(text, ())
        return overrides

    @cached_property
    def all_dimensions(self) -> tuple[Dimension, ...]:
        """All dimensions, including those in branches."""
        dimensions, rest = [], list(self.dimensions)
        while rest:
            dimensions.append(rest.pop(0))
            rest[:0] = [inner for branch in dimensions[-1].branches.values() for inner in branch]
        return tuple(dimensions)

    @property
    def swept_keys(self) -> tuple[str, ...]:
        """Keys, without `+`, of the swept parameters."""
        return tuple(dict.fromkeys(dimension.plain_key for dimension in self.all_dimensions if dimension.is_swept))

    def get_name(self, dimension: Dimension) -> str:
        """Returns the key of a dimension, with its condition if several dimensions have this key."""
        if sum(other.plain_key == dimension.plain_key for other in self.all_dimensions) == 1:
            return dimension.plain_key
        return f"{dimension.key} ({', '.join(dimension.condition)})" if dimension.condition else dimension.key

    def describe(self) -> list[dict[str, Any]]:
        """Returns name, kind, values and condition of each dimension that has several values, as in the JSON of a plan.

        The kind is "values", "int" or "float"; only the last two have `low` and `high`, only the first has `values`.
        """
        descriptions = []
        for dimension in filter(lambda dimension: dimension.has_choice, self.all_dimensions):
            kind, bounds, texts = "values", {"low": None, "high": None, "log": False}, []
            if isinstance(dimension.values, Interval):
                kind, bounds = "int" if isinstance(dimension.values.low, int) else "float", vars(dimension.values)
            else:
                texts = list(dimension.labels.values())
            names = {"name": self.get_name(dimension), "kind": kind}
            descriptions.append({**names, **bounds, "condition": ", ".join(dimension.condition), "values": texts})
        return descriptions
