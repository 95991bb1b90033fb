"""Swept parameters of a sweep, one for each swept key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from expfw.tracking.ledger import Trial, shorten_overrides

_MIN_LOG_RATIO = 8
"""Minimum ratio of the largest to the smallest value for a logarithmic axis."""
_MAX_TICKS = 8


@dataclass(frozen=True)
class Ticks:
    """Ticks of an axis.

    Attributes:
        values: positions on the axis.
        texts: text at each position.
    """

    values: Sequence[float]
    texts: Sequence[str]


@dataclass(frozen=True)
class Parameter:
    """One swept key over all trials.

    Attributes:
        key: dotted key.
        name: last part of the key if it is unique, otherwise the key.
        texts: value of each trial as typed; None if the trial does not have the key.
        numbers: the values as finite numbers; None if one of the values is not a finite number.
    """

    key: str
    name: str
    texts: Sequence[str | None]
    numbers: Sequence[float | None] | None

    @cached_property
    def distinct_texts(self) -> list[str]:
        """Distinct values: first numbers by size, then other text in the order of the sweep."""
        texts = dict.fromkeys(text for text in self.texts if text is not None)
        return sorted(texts, key=_get_sort_key)

    @cached_property
    def is_log_scale(self) -> bool:
        """Whether the range and distribution of the numbers need a logarithmic axis."""
        values = sorted(set(self._present_numbers))
        if not values or values[0] <= 0 or values[-1] / values[0] < _MIN_LOG_RATIO:
            return False
        if len(values) == 2:
            return True
        low, middle, high = values[0], values[len(values) // 2], values[-1]
        share = (middle - low) / (high - low)
        share_of_logs = math.log(middle / low) / math.log(high / low)
        return abs(share_of_logs - 0.5) <= abs(share - 0.5) + 0.1

    @cached_property
    def axis_values(self) -> list[float | None]:
        """Position of each trial on an axis: the number or its logarithm; for text, its index in `distinct_texts`."""
        if self.numbers is not None:
            return [None if v is None else math.log10(v) if self.is_log_scale else v for v in self.numbers]
        index_by_text = {text: float(index) for index, text in enumerate(self.distinct_texts)}
        return [None if text is None else index_by_text[text] for text in self.texts]

    def make_ticks(self, max_count: int = _MAX_TICKS) -> Ticks:
        """Creates ticks at the values if these are few; otherwise at round numbers, or at some of the texts."""
        if self.numbers is None:
            step = -(-len(self.distinct_texts) // max_count)
            indices = range(0, len(self.distinct_texts), step)
            return Ticks([float(i) for i in indices], [shorten_middle(self.distinct_texts[i]) for i in indices])
        text_by_value = {
            value: text for value, text in zip(self.axis_values, self.texts, strict=True) if value is not None
        }
        if len(text_by_value) > max_count:
            return make_round_ticks(min(self._present_numbers), max(self._present_numbers), self.is_log_scale)
        return Ticks(
            sorted(text_by_value), [shorten_middle(str(text_by_value[value])) for value in sorted(text_by_value)]
        )

    @cached_property
    def _present_numbers(self) -> list[float]:
        return [value for value in self.numbers or () if value is not None]


def collect_parameters(trials: Sequence[Trial]) -> list[Parameter]:
    """Returns a parameter for each swept key of any trial, in the order of the sweep."""
    rows = [_parse_swept(trial) for trial in trials]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    names = [pair.partition("=")[0] for pair in shorten_overrides([f"{key}=" for key in keys])]
    parameters = []
    for key, name in zip(keys, names, strict=True):
        texts = [row.get(key) for row in rows]
        numbers = [None if text is None else _parse_number(text) for text in texts]
        is_numeric = all((number is None) == (text is None) for number, text in zip(numbers, texts, strict=True))
        parameters.append(Parameter(key, name, texts, numbers if is_numeric else None))
    return parameters


def _parse_swept(trial: Trial) -> dict[str, str]:
    pairs = (pair.lstrip("+").partition("=") for pair in trial.swept)
    return {key: value for key, _, value in pairs}


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _get_sort_key(text: str) -> tuple[bool, float]:
    number = _parse_number(text)
    return (number is None, number or 0.0)


def make_round_ticks(low: float, high: float, is_log_scale: bool) -> Ticks:
    """Creates ticks at about five round numbers from `low` to `high`; on a logarithmic axis at their logarithms."""
    if not is_log_scale:
        step = _choose_round_step(high / 5 - low / 5)
        values = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return Ticks(values, [f"{value:.6g}" for value in values])
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 2, 5) if len(decades) <= 3 else (1,)
    decade_step = -(-len(decades) // 7)
    values = [digit * 10.0**decade for decade in decades[::decade_step] for digit in digits]
    values = [value for value in values if low * 0.999 <= value <= high * 1.001]
    return Ticks([math.log10(value) for value in values], [f"{value:.6g}" for value in values])


def _choose_round_step(min_step: float) -> float:
    if not min_step > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(min_step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= min_step * 0.999)


def shorten_middle(text: str, max_length: int = 24) -> str:
    """Shortens text to `max_length` characters by omitting its middle."""
    if len(text) <= max_length:
        return text
    head = (max_length - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (max_length - 1 - head) :]}"
