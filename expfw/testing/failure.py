"""Failures of checks: a problem and its fix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import pytest


def fail(problem: str, remedy: str, cause: BaseException | None = None) -> NoReturn:
    """Fails a check. If there is a cause, its traceback is printed too."""
    raise pytest.fail.Exception(f"{problem}\n  to fix it: {remedy}", pytrace=cause is not None) from cause


def fail_if_any(problems: Iterable[object], remedy: str = "") -> None:
    """Fails a check if there are any problems, and prints all of them."""
    lines = [str(problem) for problem in problems]
    if lines:
        fail("\n".join(lines), remedy or "see the end of each line")
