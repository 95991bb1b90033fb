"""Conversion of overrides in Python to overrides as typed on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any

from expfw.errors import ConfigError
from expfw.plugins.kinds import MULTIPLE_KINDS
from expfw.redaction import learn_overrides

Overrides = Sequence[str] | Mapping[str, Any]
"""Overrides as on the command line, `["model=cnn", "train.epochs=3"]`, or values by key, `{"train.epochs": 3}`."""

_PLAIN_TEXT = re.compile(r"(?!(?:true|false|null|inf|nan)$)[a-z_/][a-z0-9_./-]*", re.IGNORECASE | re.ASCII)
"""Text that Hydra's grammar accepts without quotes."""
_FUNCTION_CALL = re.compile(r"[a-z_]+\(.*\)", re.DOTALL)
"""Swept values as a function of Hydra's grammar: `interval(8, 64)`."""
_SPECIAL_CHARACTER = re.compile(r"([\\()\[\]{}:=, \t])")
_DICT_KEY = re.compile(r"[\w./+$%*@?|\\()\[\]{}:=, \t-]+", re.ASCII)


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
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise ConfigError(
            f"overrides are {overrides!r}; expected a list, ['model=cnn', 'train.epochs=3'], or a dictionary, "
            "{'model': 'cnn', 'train.epochs': 3}"
        )
    format_one = _format_swept_value if is_sweep else format_value
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={format_one(key, value)}" for key, value in overrides.items()]
    learn_overrides(overrides)
    return list(overrides)


def format_override(key: str, value: Any) -> str:
    """Returns the override that sets an option to this value; see `format_overrides`."""
    return f"{key}={format_value(key, value)}"


def is_swept(value: Any) -> bool:
    """Whether a sweep iterates over this value; an empty list is not swept."""
    plain_value = _to_plain(value)
    return isinstance(plain_value, (list, tuple, range)) and len(plain_value) > 0


def quote_text(text: str, quote: str | None = None) -> str:
    """Quotes any text for Hydra's grammar, by default with the kind of quotes that is simpler in a shell."""
    quote = quote or ("'" if '"' in text and "'" not in text else '"')
    escaped = re.sub(rf"(\\*){quote}", rf"\1\1\\{quote}", text)
    return quote + re.sub(r"(\\+)\Z", r"\1\1", escaped) + quote


def format_value(key: str, raw_value: Any) -> str:
    """Returns a value in Hydra's grammar.

    Raises:
        ConfigError: if the grammar has no such value; names the key.
    """
    value = _to_plain(raw_value)
    if value is None or isinstance(value, (bool, int, float)):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (str, PathLike)):
        text = str(fspath(value))
        return text if _PLAIN_TEXT.fullmatch(text) else quote_text(text)
    if isinstance(value, Mapping):
        entries = []
        for name, item in value.items():
            if not _DICT_KEY.fullmatch(str(name)) or str(name) != str(name).strip():
                raise ConfigError(
                    f"invalid key {name!r} in {key}; expected letters a-z, digits and ASCII symbols such as . - +"
                )
            escaped_name = _SPECIAL_CHARACTER.sub(r"\\\1", str(name))  # the grammar has no quotes for keys
            entries.append(f"{escaped_name}:{format_value(key, item)}")
        return f"{{{','.join(entries)}}}"
    if isinstance(value, (list, tuple, range)):
        return f"[{','.join(format_value(key, item) for item in value)}]"
    raise ConfigError(f"{key} is {value!r}; expected None, a number, text, a path, or a list or dictionary of these")


def _format_swept_value(key: str, raw_value: Any) -> str:
    value = _to_plain(raw_value)
    if isinstance(value, str) and _FUNCTION_CALL.fullmatch(value):
        return value
    if isinstance(value, (list, tuple, range)):
        if not value and key not in MULTIPLE_KINDS:
            raise ConfigError(f"{key} is an empty list; expected values to sweep, such as [8, 64]")
        return ",".join(format_value(key, item) for item in value) or "[]"
    return format_value(key, value)


def _to_plain(value: Any) -> Any:
    """Converts NumPy values to Python values."""
    return value.tolist() if hasattr(value, "tolist") else value
