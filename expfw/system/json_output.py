"""JSON for programs on stdout, strict, with nothing else beside it."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from typing import Any, TextIO


def print_json(values: Any, file: TextIO | None = None) -> None:
    """Prints values that JSON knows, and texts of all others."""
    print(format_json(values), file=file, flush=True)


def format_json(values: Any) -> str:
    """The text of them."""
    return json.dumps(_replace_non_finite(values), indent=2, default=str)


def _replace_non_finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def reserve_stdout_for_json() -> Iterator[TextIO]:
    """What is printed meanwhile, for people or by plugins, goes to stderr; yields stdout, for the JSON."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield stdout
