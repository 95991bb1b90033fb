"""Command-line overrides from values, in Hydra's grammar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def make_override(key: str, value: Any) -> str:
    """Returns the override that sets a key, whether or not the key already exists."""
    return f"++{key}={_quote_value(value)}"


def _quote_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_quote_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_quote_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, (int, float)):
        return repr(value) if math.isfinite(value) else str(value)
    text = str(value)
    backslashes = len(text) - len(text.rstrip("\\"))  # backslashes before a quote must be doubled
    return "'" + text.replace("'", "\\'") + "\\" * backslashes + "'"
