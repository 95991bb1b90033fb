"""Overrides given in Python as the words that one would type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from expfw.errors import ConfigError

Overrides = Sequence[str] | Mapping[str, Any]
"""Words as on the command line, `["model=cnn", "train.epochs=3"]`, or values by key, `{"train.epochs": 3}`."""

_PLAIN = re.compile(r"(?!(?:true|false|null|inf|nan)$)[a-z_/][a-z0-9_./-]*", re.IGNORECASE | re.ASCII)
"""Text that Hydra's grammar takes as it is, without quotes."""
_CALL = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)
"""What is swept over, as a function of that grammar: `interval(8, 64)`."""
_SPECIAL = re.compile(r"([\\()\[\]{}:=, \t])")
_KEY = re.compile(r"[\w./+$%*@?|\\()\[\]{}:=, \t-]+", re.ASCII)
_SEVERAL = ("callback", "tracker")
"""Keys of which an empty list in a sweep means none."""


def words(overrides: Overrides, sweeping: bool = False) -> list[str]:
    """These overrides as they are typed.

    Args:
        overrides: values that are text are meant as they are, whatever is in them; only `${...}` is an interpolation,
            as everywhere in a configuration, and a backslash before it makes text of that, too.
        sweeping: whether a list of values is to be swept over, and text such as `interval(8, 64)` is a space to search;
            else a list is the value of one option.

    Raises:
        ConfigError: they are something else.
    """
    if isinstance(overrides, Mapping):
        value_of = _swept if sweeping else _value
        return [f"{_key(key, value)}={value_of(key, value)}" for key, value in overrides.items()]
    if isinstance(overrides, str) or not all(isinstance(word, str) for word in overrides):
        raise ConfigError(
            f"overrides are {overrides!r}; expected a list of words, ['model=cnn', 'train.epochs=3'], or a dictionary, "
            "{'model': 'cnn', 'train.epochs': 3}"
        )
    return list(overrides)


def override(key: str, value: str | PathLike[str]) -> str:
    """The word that gives an option this text."""
    return f"{key}={_text(fspath(value))}"


def swept(value: Any) -> bool:
    """Whether it is what a sweep goes over; nothing to sweep over is an empty list."""
    given = _plain(value)
    return isinstance(given, (list, tuple, range)) and len(given) > 0


def quoted(text: str) -> str:
    """Text that the grammar takes as it is, whatever is in it; of two ways that which a shell shows more simply."""
    mark = "'" if '"' in text and "'" not in text else '"'
    escaped = re.sub(rf"(\\*){mark}", rf"\1\1\\{mark}", text)
    return mark + re.sub(r"(\\+)\Z", r"\1\1", escaped) + mark


def _key(key: Any, value: Any) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{key!r} is no key of an option; expected text, {{'model.units': 8}}")
    adds = isinstance(value, Mapping) and not key.startswith(("+", "~"))  # it may have entries that are not there yet
    return f"+{key}" if adds else key


def _swept(key: str, given: Any) -> str:
    value = _plain(given)
    if isinstance(value, str) and _CALL.fullmatch(value):
        return value
    if not isinstance(value, (list, tuple, range)):
        return _value(key, value)
    if not value and key not in _SEVERAL:
        raise ConfigError(f"the list of {key} is empty, there is nothing to sweep over; expected values, [8, 64]")
    return ",".join(_value(key, one) for one in value) if swept(value) else "[]"


def _value(key: str, given: Any) -> str:
    """A value in Hydra's grammar."""
    value = _plain(given)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (str, PathLike)):
        return _text(str(fspath(value)))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_inner_key(key, name)}:{_value(key, one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple, range)):
        return "[" + ",".join(_value(key, one) for one in value) + "]"
    raise ConfigError(f"{key} is {value!r}; expected a number, text, a path, a list or a dictionary of such, or None")


def _plain(value: Any) -> Any:
    """What NumPy has, as Python has it."""
    return value.tolist() if hasattr(value, "tolist") else value


def _inner_key(key: str, name: Any) -> str:
    """The grammar has no quotes for the key of a dictionary."""
    text = str(name)
    if not _KEY.fullmatch(text) or text != text.strip():
        raise ConfigError(f"{key} has the key {name!r}; expected letters from a to z, digits and what is on a keyboard")
    return _SPECIAL.sub(r"\\\1", text)


def _text(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quoted(text)
