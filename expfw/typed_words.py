"""Overrides given in Python as the words that one would type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expfw.errors import ConfigError

Overrides = Sequence[str] | Mapping[str, Any]
"""Words as on the command line, `["model=cnn", "train.epochs=3"]`, or values by key, `{"train.epochs": 3}`."""


def words(overrides: Overrides, sweeping: bool = False) -> list[str]:
    """These overrides as they are typed.

    Args:
        overrides: values that are text stand as they are typed: `{"model.units": "interval(8, 64)"}`.
        sweeping: whether a list of values is to be swept over; else it is the value of one option.

    Raises:
        ConfigError: they are something else.
    """
    if isinstance(overrides, Mapping):
        return [f"{key}={_swept(value) if sweeping else _value(value)}" for key, value in overrides.items()]
    if isinstance(overrides, str) or not all(isinstance(word, str) for word in overrides):
        raise ConfigError(
            f"overrides are {overrides!r}; expected a list of words, ['model=cnn', 'train.epochs=3'], or a dictionary, "
            "{'model': 'cnn', 'train.epochs': 3}"
        )
    return list(overrides)


def swept(value: Any) -> bool:
    """Whether it is what a sweep goes over; nothing to sweep over is an empty list."""
    return isinstance(value, (list, tuple, range)) and len(value) > 0


def _swept(value: Any) -> str:
    return ",".join(map(_value, value)) if swept(value) else _value(value)


def _value(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple, range)):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, Path):
        return quoted(str(value))
    return str(value)


def quoted(text: str) -> str:
    """Text that Hydra's grammar takes as it is, whatever is in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'" if text else "''"
