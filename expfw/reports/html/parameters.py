"""What a sweep's trials differ in, a column for each swept key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from expfw.tracking.ledger import Trial, short_words

_LOG_FROM = 8
"""So many times its smallest value must the largest one be for a logarithmic axis."""
_MOST_TICKS = 8


@dataclass(frozen=True)
class Ticks:
    """Places on an axis, and what is written there."""

    places: Sequence[float]
    texts: Sequence[str]


@dataclass(frozen=True)
class Parameter:
    """One swept key over all trials.

    Attributes:
        key: dotted; name: its last part, where that tells it from the others.
        texts: the value of each trial, as it was given; None where a trial has no such key.
        numbers: the same as finite numbers; None where one of the values is none.
    """

    key: str
    name: str
    texts: Sequence[str | None]
    numbers: Sequence[float | None] | None

    @cached_property
    def distinct(self) -> list[str]:
        """The different values: numbers by size before words, words in order of the sweep."""
        seen = dict.fromkeys(text for text in self.texts if text is not None)
        return sorted(seen, key=_by_size)

    @cached_property
    def log(self) -> bool:
        """Whether its numbers span so much, and lie so, that their order of magnitude counts."""
        values = sorted(set(self._present))
        if not values or values[0] <= 0 or values[-1] / values[0] < _LOG_FROM:
            return False
        if len(values) == 2:
            return True
        low, middle, high = values[0], values[len(values) // 2], values[-1]
        share = (middle - low) / (high - low)
        share_of_logs = math.log(middle / low) / math.log(high / low)
        return abs(share_of_logs - 0.5) <= abs(share - 0.5) + 0.1

    @cached_property
    def places(self) -> list[float | None]:
        """Where each trial lies on an axis: the number, or its logarithm; for words, their place among all."""
        if self.numbers is not None:
            return [None if v is None else math.log10(v) if self.log else v for v in self.numbers]
        place = {text: float(index) for index, text in enumerate(self.distinct)}
        return [None if text is None else place[text] for text in self.texts]

    def ticks(self, most: int = _MOST_TICKS) -> Ticks:
        """Ticks at the values, where these are few; else at round numbers, or at some of the words."""
        if self.numbers is None:
            every = -(-len(self.distinct) // most)
            chosen = range(0, len(self.distinct), every)
            return Ticks([float(i) for i in chosen], [shortened(self.distinct[i]) for i in chosen])
        text_at = {place: text for place, text in zip(self.places, self.texts, strict=True) if place is not None}
        if len(text_at) > most:
            return round_ticks(min(self._present), max(self._present), self.log)
        return Ticks(sorted(text_at), [shortened(str(text_at[place])) for place in sorted(text_at)])

    @cached_property
    def _present(self) -> list[float]:
        return [value for value in self.numbers or () if value is not None]


def parameters(trials: Sequence[Trial]) -> list[Parameter]:
    """One for each key that any trial was given, in the order of the sweep."""
    rows = [_pairs(trial) for trial in trials]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    names = [word.partition("=")[0] for word in short_words([f"{key}=" for key in keys])]
    made = []
    for key, name in zip(keys, names, strict=True):
        texts = [row.get(key) for row in rows]
        numbers = [None if text is None else _number(text) for text in texts]
        whole = all((number is None) == (text is None) for number, text in zip(numbers, texts, strict=True))
        made.append(Parameter(key, name, texts, numbers if whole else None))
    return made


def _pairs(trial: Trial) -> dict[str, str]:
    words = (word.lstrip("+").partition("=") for word in trial.swept)
    return {key: value for key, _, value in words}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _by_size(text: str) -> tuple[bool, float]:
    number = _number(text)
    return (number is None, number or 0.0)


def round_ticks(low: float, high: float, log: bool) -> Ticks:
    """About five round numbers from `low` to `high`; on a logarithmic axis at their logarithms."""
    if not log:
        step = _round_step(high / 5 - low / 5)
        values = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return Ticks(values, [f"{value:.6g}" for value in values])
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    within = (1, 2, 5) if len(decades) <= 3 else (1,)
    every = -(-len(decades) // 7)
    values = [digit * 10.0**decade for decade in decades[::every] for digit in within]
    values = [value for value in values if low * 0.999 <= value <= high * 1.001]
    return Ticks([math.log10(value) for value in values], [f"{value:.6g}" for value in values])


def _round_step(about: float) -> float:
    if not about > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(about))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= about * 0.999)


def shortened(text: str, most: int = 24) -> str:
    """A text with its middle left out, where it is too long for its place."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
