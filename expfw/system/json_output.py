"""Strict JSON on stdout, without any other output."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from expfw.redaction import redact
from expfw.system.redirection import RedactedStream


def print_json(values: Any, file: TextIO | None = None) -> None:
    """Prints values as JSON, with secrets hidden in texts; other types become text."""
    stream = file or sys.stdout
    if isinstance(stream, RedactedStream):  # it would also hide a number that is a secret, too
        stream = stream.stream
    print(format_json(values), file=stream, flush=True)


def format_json(values: Any) -> str:
    """Returns values as JSON text; see `print_json`."""
    return json.dumps(redact(json.loads(json.dumps(_replace_non_finite(values), default=str))), indent=2)


def _replace_non_finite(value: Any) -> Any:
    """Replaces NaN and infinity, which JSON does not allow, with null."""
    if isinstance(value, dict):
        return {key: _replace_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replace_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def reserve_stdout_for_json() -> Iterator[TextIO]:
    """Sends other output to stderr inside the context; yields stdout, for the JSON."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield stdout
