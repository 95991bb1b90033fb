"""Swept parameters of a sweep, one for each swept key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from expfw.reports.sweep_summary import shorten_keys
from expfw.tracking.ledger import Trial, split_overrides


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
        numbers = {text: _parse_number(text) for text in texts}
        return sorted(texts, key=lambda text: math.inf if (number := numbers[text]) is None else number)

    @cached_property
    def is_log_scale(self) -> bool:
        """Whether the numbers need a logarithmic axis."""
        return needs_log_scale([number for number in self.numbers or () if number is not None])

    @cached_property
    def positions(self) -> list[float | None]:
        """Position of each trial on an axis: the number or its logarithm; for text, its index in `distinct_texts`."""
        if self.numbers is not None:
            return [None if v is None else math.log10(v) if self.is_log_scale else v for v in self.numbers]
        return [None if text is None else float(self.distinct_texts.index(text)) for text in self.texts]


def collect_parameters(trials: Sequence[Trial]) -> list[Parameter]:
    """Returns a parameter for each swept key of any trial, in the order of the sweep."""
    rows = [split_overrides(trial.swept) for trial in trials]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    parameters = []
    for key, name in zip(keys, shorten_keys(keys), strict=True):
        texts = [row.get(key) for row in rows]
        numbers = [None if text is None else _parse_number(text) for text in texts]
        is_numeric = numbers.count(None) == texts.count(None)
        parameters.append(Parameter(key, name, texts, numbers if is_numeric else None))
    return parameters


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def needs_log_scale(numbers: Sequence[float], min_ratio: float = 8.0) -> bool:
    """Whether the range and distribution of numbers need a logarithmic axis."""
    values = sorted(set(numbers))
    if not values or values[0] <= 0 or values[-1] / values[0] < min_ratio:
        return False
    if len(values) == 2:
        return True
    low, middle, high = values[0], values[len(values) // 2], values[-1]
    share = (middle - low) / (high - low)
    share_of_logs = math.log(middle / low) / math.log(high / low)
    return abs(share_of_logs - 0.5) <= abs(share - 0.5) + 0.1


def shorten_middle(text: str, max_length: int = 24) -> str:
    """Shortens text to `max_length` characters by omitting its middle."""
    if len(text) <= max_length:
        return text
    head = (max_length - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (max_length - 1 - head) :]}"
