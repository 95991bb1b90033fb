"""Space of a sweep: its dimensions, some of them conditional on the values of others."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from expfw.errors import ConfigError


@dataclass(frozen=True)
class Interval:
    """Interval of numbers, with both ends included.

    Attributes:
        low: smallest value; a whole number if `is_integer`.
        high: largest value; a whole number if `is_integer`.
        is_integer: whether all values are whole numbers.
        log: whether values are sampled on a log scale.
    """

    low: float
    high: float
    is_integer: bool = False
    log: bool = False

    def format_value(self, value: float) -> str:
        """Returns a number as the value of an override; parsing it returns exactly the same number."""
        return str(int(value)) if self.is_integer else repr(float(value))

    @property
    def integer_expression(self) -> str:
        """Expression of the same interval for an option that is a whole number."""
        expression = f"int(interval({self.low:g},{self.high:g}))"
        return f"tag(log,{expression})" if self.log else expression


@dataclass(frozen=True)
class DimensionSummary:
    """Readable summary of a dimension.

    Attributes:
        name: name, unique in its space.
        kind: "values", "float" or "int".
        low: smallest value of a float or an int, or None.
        high: largest value of a float or an int, or None.
        log: whether a float or an int is sampled on a log scale.
        values: values of a dimension of kind "values", as in an override.
        condition: condition for the dimension, such as `model=cnn`; empty if it has none.
    """

    name: str
    kind: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    values: Sequence[str] = ()
    condition: str = ""


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
        """Its values.

        Raises:
            ConfigError: if it is an interval, which has no list of values.
        """
        if isinstance(self.values, Interval):
            raise ConfigError(
                f"{self.key} is an interval; a grid needs a list of values, such as "
                f"{self.key}={self.values.low:g},{self.values.high:g}; use such a list or "
                "another sweep.sampler, such as tpe or random"
            )
        return self.values

    def make_override(self, text: str) -> str:
        """Returns the override that sets this value."""
        return f"{self.key}={text}"

    @cached_property
    def size(self) -> int:
        """Number of combinations of its values, including their branches."""
        return self._cumulative_sizes[-1] if self.branches else len(self.discrete_values)

    @cached_property
    def _cumulative_sizes(self) -> list[int]:
        """Cumulative number of combinations after each value."""
        return list(
            accumulate(_count_combinations(self.branches.get(str(value), ())) for value in self.discrete_values)
        )

    def iterate_combination(self, number: int) -> Iterator[tuple[Dimension, str]]:
        """Iterates over the dimensions of one combination, with the text of their value."""
        position, inner = number, 0
        if self.branches:
            position = bisect_right(self._cumulative_sizes, number)
            inner = number - (self._cumulative_sizes[position - 1] if position else 0)
        text = str(self.discrete_values[position])
        yield self, text
        yield from _iterate_combination(self.branches.get(text, ()), inner)

    def iterate_dimensions(self) -> Iterator[Dimension]:
        """Iterates over this dimension and all dimensions in its branches."""
        yield self
        for branch in self.branches.values():
            for dimension in branch:
                yield from dimension.iterate_dimensions()


def _count_combinations(dimensions: Iterable[Dimension]) -> int:
    return math.prod(dimension.size for dimension in dimensions)


def _iterate_combination(dimensions: Sequence[Dimension], number: int) -> Iterator[tuple[Dimension, str]]:
    digits = []
    for dimension in reversed(dimensions):
        number, digit = divmod(number, dimension.size)
        digits.append(digit)
    for dimension, digit in zip(dimensions, reversed(digits), strict=True):
        yield from dimension.iterate_combination(digit)


@dataclass(frozen=True)
class Space:
    """All overrides of a sweep: fixed ones, which every trial has, and swept ones, in their order.

    In a grid, each combination has a number; the last dimension varies fastest. Conditional dimensions come directly
    after the dimension that they depend on.
    """

    dimensions: tuple[Dimension, ...]

    @cached_property
    def total(self) -> int:
        """Number of combinations, computed without creating them.

        Raises:
            ConfigError: if the space has an interval.
        """
        return _count_combinations(self.dimensions)

    def get_combination(self, number: int) -> list[tuple[Dimension, str]]:
        """Returns the combination with this number, from 0: dimensions with the text of their value."""
        if not 0 <= number < self.total:
            raise IndexError(f"combination {number} of {self.total}")
        return list(_iterate_combination(self.dimensions, number))

    def get_overrides(self, number: int) -> list[str]:
        """Returns all overrides of the combination with this number, from 0."""
        return [dimension.make_override(text) for dimension, text in self.get_combination(number)]

    def choose_overrides(self, choose: Callable[[Dimension], str]) -> list[str]:
        """Returns all overrides of a trial.

        Args:
            choose: returns the text of a value for a dimension; called in order, only for dimensions that this trial
                has.
        """

        def iterate_overrides(dimensions: Sequence[Dimension]) -> Iterator[str]:
            for dimension in dimensions:
                text = choose(dimension) if dimension.has_choice else str(dimension.discrete_values[0])
                yield dimension.make_override(text)
                yield from iterate_overrides(dimension.branches.get(text, ()))

        return list(iterate_overrides(self.dimensions))

    @cached_property
    def all_dimensions(self) -> tuple[Dimension, ...]:
        """All dimensions, including those in branches."""
        return tuple(inner for dimension in self.dimensions for inner in dimension.iterate_dimensions())

    @property
    def fixed_overrides(self) -> list[str]:
        """Overrides that every trial has."""
        return [
            dimension.make_override(str(dimension.discrete_values[0]))
            for dimension in self.all_dimensions
            if not dimension.is_swept
        ]

    @property
    def swept_keys(self) -> tuple[str, ...]:
        """Keys, with `+`, of the swept parameters."""
        return tuple(dict.fromkeys(dimension.key for dimension in self.all_dimensions if dimension.is_swept))

    @property
    def has_interval(self) -> bool:
        """Whether any dimension is an interval."""
        return any(isinstance(dimension.values, Interval) for dimension in self.all_dimensions)

    @cached_property
    def _key_counts(self) -> Counter[str]:
        return Counter(dimension.plain_key for dimension in self.all_dimensions)

    def get_name(self, dimension: Dimension) -> str:
        """Returns the key of a dimension, with its condition if several dimensions have this key."""
        if self._key_counts[dimension.plain_key] == 1:
            return dimension.plain_key
        return f"{dimension.key} ({', '.join(dimension.condition)})" if dimension.condition else dimension.key

    def describe(self) -> list[DimensionSummary]:
        """Returns summaries of the dimensions that have several values."""
        return [self._summarize(dimension) for dimension in self.all_dimensions if dimension.has_choice]

    def _summarize(self, dimension: Dimension) -> DimensionSummary:
        name, condition = self.get_name(dimension), ", ".join(dimension.condition)
        if isinstance(values := dimension.values, Interval):
            return DimensionSummary(
                name, "int" if values.is_integer else "float", values.low, values.high, values.log, condition=condition
            )
        return DimensionSummary(name, "values", values=[str(value) for value in values], condition=condition)
