"""The space that a sweep covers: its dimensions, some of which are there only for certain values of others."""

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
    """Numbers between two ends, both included.

    Attributes:
        low: a whole number where `is_integer`, like `high`.
        log: whether each order of magnitude counts as much as any other.
    """

    low: float
    high: float
    is_integer: bool = False
    log: bool = False

    def format_value(self, value: float) -> str:
        """A number of it as the value of an override; reading it gives exactly that number."""
        return str(int(value)) if self.is_integer else repr(float(value))

    @property
    def integer_expression(self) -> str:
        """How the same is written for an option that is a whole number."""
        expression = f"int(interval({self.low:g},{self.high:g}))"
        return f"tag(log,{expression})" if self.log else expression


@dataclass(frozen=True)
class DimensionSummary:
    """A dimension as people read it.

    Attributes:
        name: unique in its space.
        kind: values, float or int.
        low, high: of a float or an int.
        values: of a dimension of values, as in an override.
        condition: what it is there for, such as `model=cnn`; empty for always.
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
    """The key of an override, and what it may be.

    Attributes:
        key: as in the override, with `+` and package.
        values: texts of the override's value (a range of whole numbers stays one), or an interval.
        is_swept: whether it may differ between jobs.
        branches: by the text of a value, the dimensions that are there only with that value.
        condition: the values of others that it is there for, from the outermost to the nearest.
    """

    key: str
    values: Sequence[str] | range | Interval
    is_swept: bool
    branches: Mapping[str, tuple[Dimension, ...]] = field(default_factory=dict)
    condition: tuple[str, ...] = ()

    @property
    def plain_key(self) -> str:
        """Without `+`: what it is about."""
        return self.key.lstrip("+")

    @property
    def has_choice(self) -> bool:
        """Whether there is anything to choose."""
        return isinstance(self.values, Interval) or len(self.values) > 1

    @property
    def discrete_values(self) -> Sequence[str] | range:
        """Its values.

        Raises:
            ConfigError: it is an interval, whose values nobody can count.
        """
        if isinstance(self.values, Interval):
            raise ConfigError(
                f"{self.key} is an interval, of which a grid cannot try every value; list some, such as "
                f"{self.key}={self.values.low:g},{self.values.high:g}, or take "
                "another sweep.sampler, such as tpe or random"
            )
        return self.values

    def make_override(self, text: str) -> str:
        """The override that gives it this value."""
        return f"{self.key}={text}"

    @cached_property
    def size(self) -> int:
        """How many combinations there are of its values, with what is in their branches."""
        return self._cumulative_sizes[-1] if self.branches else len(self.discrete_values)

    @cached_property
    def _cumulative_sizes(self) -> list[int]:
        """Up to which combination each value goes."""
        return list(
            accumulate(_count_combinations(self.branches.get(str(value), ())) for value in self.discrete_values)
        )

    def iterate_combination(self, number: int) -> Iterator[tuple[Dimension, str]]:
        """The combination of that number: dimensions with the text of their value."""
        position, inner = number, 0
        if self.branches:
            position = bisect_right(self._cumulative_sizes, number)
            inner = number - (self._cumulative_sizes[position - 1] if position else 0)
        text = str(self.discrete_values[position])
        yield self, text
        yield from _iterate_combination(self.branches.get(text, ()), inner)

    def iterate_dimensions(self) -> Iterator[Dimension]:
        """It and all dimensions in its branches."""
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
    """All overrides of a sweep: those that every job gets, and the dimensions that tell jobs apart, in their order.

    As a grid it has a number for each combination; it is the last dimension that differs between neighbours. What
    depends on a value stands, and counts, right behind the dimension of that value.
    """

    dimensions: tuple[Dimension, ...]

    @cached_property
    def total(self) -> int:
        """How many combinations there are; counted without making them.

        Raises:
            ConfigError: there is an interval.
        """
        return _count_combinations(self.dimensions)

    def get_combination(self, number: int) -> list[tuple[Dimension, str]]:
        """The combination of that number, from 0: dimensions with the text of their value."""
        if not 0 <= number < self.total:
            raise IndexError(f"combination {number} of {self.total}")
        return list(_iterate_combination(self.dimensions, number))

    def get_overrides(self, number: int) -> list[str]:
        """All overrides of the combination of that number, from 0."""
        return [dimension.make_override(text) for dimension, text in self.get_combination(number)]

    def choose_overrides(self, choose: Callable[[Dimension], str]) -> list[str]:
        """All overrides of a job.

        Args:
            choose: the text of a value for a dimension; asked for those alone that this job has, one after the other.
        """

        def iterate_overrides(dimensions: Sequence[Dimension]) -> Iterator[str]:
            for dimension in dimensions:
                text = choose(dimension) if dimension.has_choice else str(dimension.discrete_values[0])
                yield dimension.make_override(text)
                yield from iterate_overrides(dimension.branches.get(text, ()))

        return list(iterate_overrides(self.dimensions))

    @cached_property
    def all_dimensions(self) -> tuple[Dimension, ...]:
        """All dimensions, those in branches too."""
        return tuple(inner for dimension in self.dimensions for inner in dimension.iterate_dimensions())

    @property
    def fixed_overrides(self) -> list[str]:
        """The overrides that every job gets."""
        return [
            dimension.make_override(str(dimension.discrete_values[0]))
            for dimension in self.all_dimensions
            if not dimension.is_swept
        ]

    @property
    def swept_keys(self) -> tuple[str, ...]:
        """The keys, with `+`, whose values may differ between jobs."""
        return tuple(dict.fromkeys(dimension.key for dimension in self.all_dimensions if dimension.is_swept))

    @property
    def has_interval(self) -> bool:
        """Whether its values cannot be counted."""
        return any(isinstance(dimension.values, Interval) for dimension in self.all_dimensions)

    @cached_property
    def _key_counts(self) -> Counter[str]:
        return Counter(dimension.plain_key for dimension in self.all_dimensions)

    def get_name(self, dimension: Dimension) -> str:
        """The key of a dimension; with its condition where several have that key."""
        if self._key_counts[dimension.plain_key] == 1:
            return dimension.plain_key
        return f"{dimension.key} ({', '.join(dimension.condition)})" if dimension.condition else dimension.key

    def describe(self) -> list[DimensionSummary]:
        """The dimensions with anything to choose."""
        return [self._summarize(dimension) for dimension in self.all_dimensions if dimension.has_choice]

    def _summarize(self, dimension: Dimension) -> DimensionSummary:
        name, condition = self.get_name(dimension), ", ".join(dimension.condition)
        if isinstance(values := dimension.values, Interval):
            return DimensionSummary(
                name, "int" if values.is_integer else "float", values.low, values.high, values.log, condition=condition
            )
        return DimensionSummary(name, "values", values=[str(value) for value in values], condition=condition)
