"""Overrides given in Python as the words that one would type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from expfw.errors import ConfigError

Overrides = Sequence[str] | Mapping[str, Any]
"""Words as on the command line, `["model=cnn", "train.epochs=3"]`, or values by key, `{"train.epochs": 3}`."""

_PLAIN_TEXT = re.compile(r"(?!(?:true|false|null|inf|nan)$)[a-z_/][a-z0-9_./-]*", re.IGNORECASE | re.ASCII)
"""Text that Hydra's grammar takes as it is, without quotes."""
_FUNCTION_CALL = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)
"""What is swept over, as a function of that grammar: `interval(8, 64)`."""
_SPECIAL_CHARACTER = re.compile(r"([\\()\[\]{}:=, \t])")
_DICT_KEY = re.compile(r"[\w./+$%*@?|\\()\[\]{}:=, \t-]+", re.ASCII)
_MULTIPLE_KINDS = ("callback", "tracker")
"""Keys of which an empty list in a sweep means none."""


def format_overrides(overrides: Overrides, is_sweep: bool = False) -> list[str]:
    """These overrides as they are typed.

    Args:
        overrides: values that are text are meant as they are, whatever is in them; only `${...}` is an interpolation,
            as everywhere in a configuration, and a backslash before it makes text of that, too.
        is_sweep: whether a list of values is to be swept over, and text such as `interval(8, 64)` is a space to search;
            else a list is the value of one option.

    Raises:
        ConfigError: they are something else.
    """
    if isinstance(overrides, Mapping):
        format_value = _format_swept_value if is_sweep else _format_value
        return [f"{_format_key(key, value)}={format_value(key, value)}" for key, value in overrides.items()]
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise ConfigError(
            f"overrides are {overrides!r}; expected a list of words, ['model=cnn', 'train.epochs=3'], or a dictionary, "
            "{'model': 'cnn', 'train.epochs': 3}"
        )
    return list(overrides)


def format_override(key: str, value: str | PathLike[str]) -> str:
    """The word that gives an option this text."""
    return f"{key}={_format_text(fspath(value))}"


def is_swept(value: Any) -> bool:
    """Whether it is what a sweep goes over; nothing to sweep over is an empty list."""
    plain_value = _to_plain(value)
    return isinstance(plain_value, (list, tuple, range)) and len(plain_value) > 0


def quote_text(text: str) -> str:
    """Text that the grammar takes as it is, whatever is in it; of two ways that which a shell shows more simply."""
    quote = "'" if '"' in text and "'" not in text else '"'
    escaped = re.sub(rf"(\\*){quote}", rf"\1\1\\{quote}", text)
    return quote + re.sub(r"(\\+)\Z", r"\1\1", escaped) + quote


def _format_key(key: Any, value: Any) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{key!r} is no key of an option; expected text, {{'model.units': 8}}")
    is_added = isinstance(value, Mapping) and not key.startswith(
        ("+", "~")
    )  # it may have entries that are not there yet
    return f"+{key}" if is_added else key


def _format_swept_value(key: str, raw_value: Any) -> str:
    value = _to_plain(raw_value)
    if isinstance(value, str) and _FUNCTION_CALL.fullmatch(value):
        return value
    if not isinstance(value, (list, tuple, range)):
        return _format_value(key, value)
    if not value and key not in _MULTIPLE_KINDS:
        raise ConfigError(f"the list of {key} is empty, there is nothing to sweep over; expected values, [8, 64]")
    return ",".join(_format_value(key, item) for item in value) if is_swept(value) else "[]"


def _format_value(key: str, raw_value: Any) -> str:
    """A value in Hydra's grammar."""
    value = _to_plain(raw_value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (str, PathLike)):
        return _format_text(str(fspath(value)))
    if isinstance(value, Mapping):
        return (
            "{"
            + ",".join(f"{_format_inner_key(key, name)}:{_format_value(key, item)}" for name, item in value.items())
            + "}"
        )
    if isinstance(value, (list, tuple, range)):
        return "[" + ",".join(_format_value(key, item) for item in value) + "]"
    raise ConfigError(f"{key} is {value!r}; expected a number, text, a path, a list or a dictionary of such, or None")


def _to_plain(value: Any) -> Any:
    """What NumPy has, as Python has it."""
    return value.tolist() if hasattr(value, "tolist") else value


def _format_inner_key(key: str, name: Any) -> str:
    """The grammar has no quotes for the key of a dictionary."""
    text = str(name)
    if not _DICT_KEY.fullmatch(text) or text != text.strip():
        raise ConfigError(f"{key} has the key {name!r}; expected letters from a to z, digits and what is on a keyboard")
    return _SPECIAL_CHARACTER.sub(r"\\\1", text)


def _format_text(text: str) -> str:
    return text if _PLAIN_TEXT.fullmatch(text) else quote_text(text)
