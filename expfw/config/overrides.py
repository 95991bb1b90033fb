"""Conversion of overrides in Python to overrides as typed on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from expfw.errors import ConfigError

Overrides = Sequence[str] | Mapping[str, Any]
"""Overrides as on the command line, `["model=cnn", "train.epochs=3"]`, or values by key, `{"train.epochs": 3}`."""

_PLAIN_TEXT = re.compile(r"(?!(?:true|false|null|inf|nan)$)[a-z_/][a-z0-9_./-]*", re.IGNORECASE | re.ASCII)
"""Text that Hydra's grammar accepts without quotes."""
_FUNCTION_CALL = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)
"""Swept values as a function of Hydra's grammar: `interval(8, 64)`."""
_SPECIAL_CHARACTER = re.compile(r"([\\()\[\]{}:=, \t])")
_DICT_KEY = re.compile(r"[\w./+$%*@?|\\()\[\]{}:=, \t-]+", re.ASCII)
_MULTIPLE_KINDS = ("callback", "tracker")
"""Keys for which an empty list in a sweep means no plugin."""


def format_overrides(overrides: Overrides, is_sweep: bool = False) -> list[str]:
    """Returns these overrides as typed on the command line.

    Args:
        overrides: text values are literal, with any characters. Only `${...}` is an interpolation, as everywhere in a
            configuration; a backslash before it makes it literal, too.
        is_sweep: whether a list of values is swept and text such as `interval(8, 64)` is a search space; otherwise a
            list is the value of one option.

    Raises:
        ConfigError: if the overrides have another type.
    """
    if isinstance(overrides, Mapping):
        format_value = _format_swept_value if is_sweep else _format_value
        return [f"{_format_key(key, value)}={format_value(key, value)}" for key, value in overrides.items()]
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise ConfigError(
            f"overrides are {overrides!r}; expected a list, ['model=cnn', 'train.epochs=3'], or a dictionary, "
            "{'model': 'cnn', 'train.epochs': 3}"
        )
    return list(overrides)


def format_override(key: str, value: str | PathLike[str]) -> str:
    """Returns the override that sets an option to this text."""
    return f"{key}={_format_text(fspath(value))}"


def is_swept(value: Any) -> bool:
    """Whether a sweep iterates over this value; an empty list is not swept."""
    plain_value = _to_plain(value)
    return isinstance(plain_value, (list, tuple, range)) and len(plain_value) > 0


def quote_text(text: str) -> str:
    """Quotes any text for Hydra's grammar, with the kind of quotes that is simpler in a shell."""
    quote = "'" if '"' in text and "'" not in text else '"'
    escaped = re.sub(rf"(\\*){quote}", rf"\1\1\\{quote}", text)
    return quote + re.sub(r"(\\+)\Z", r"\1\1", escaped) + quote


def _format_key(key: Any, value: Any) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"invalid option key {key!r}; expected text, {{'model.units': 8}}")
    is_added = isinstance(value, Mapping) and not key.startswith(("+", "~"))  # the value may have new entries
    return f"+{key}" if is_added else key


def _format_swept_value(key: str, raw_value: Any) -> str:
    value = _to_plain(raw_value)
    if isinstance(value, str) and _FUNCTION_CALL.fullmatch(value):
        return value
    if not isinstance(value, (list, tuple, range)):
        return _format_value(key, value)
    if not value and key not in _MULTIPLE_KINDS:
        raise ConfigError(f"{key} is an empty list; expected values to sweep, such as [8, 64]")
    return ",".join(_format_value(key, item) for item in value) if is_swept(value) else "[]"


def _format_value(key: str, raw_value: Any) -> str:
    """Formats a value in Hydra's grammar."""
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
    raise ConfigError(f"{key} is {value!r}; expected None, a number, text, a path, or a list or dictionary of these")


def _to_plain(value: Any) -> Any:
    """Converts NumPy values to Python values."""
    return value.tolist() if hasattr(value, "tolist") else value


def _format_inner_key(key: str, name: Any) -> str:
    """Escapes the key of a dictionary, which cannot be quoted in Hydra's grammar."""
    text = str(name)
    if not _DICT_KEY.fullmatch(text) or text != text.strip():
        raise ConfigError(
            f"invalid key {name!r} in {key}; expected letters a-z, digits and ASCII symbols such as . - +"
        )
    return _SPECIAL_CHARACTER.sub(r"\\\1", text)


def _format_text(text: str) -> str:
    return text if _PLAIN_TEXT.fullmatch(text) else quote_text(text)
