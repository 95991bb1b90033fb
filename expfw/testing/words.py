"""Values as overrides of the command line, in Hydra's grammar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def make_override(key: str, value: Any) -> str:
    """`key=value`, whether the key is there already or not."""
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
    backslashes = len(text) - len(text.rstrip("\\"))  # those before a quote have to be doubled
    return "'" + text.replace("'", "\\'") + "\\" * backslashes + "'"
