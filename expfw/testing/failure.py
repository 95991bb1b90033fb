"""How a check fails: what is wrong, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import pytest


def fail(problem: str, remedy: str, cause: BaseException | None = None) -> NoReturn:
    """Ends a check. With a cause, its traceback is shown too."""
    raise pytest.fail.Exception(f"{problem}\n  to mend it: {remedy}", pytrace=cause is not None) from cause


def fail_if_any(problems: Iterable[object], remedy: str = "") -> None:
    """Ends a check where there are any, all of them shown."""
    lines = [str(problem) for problem in problems]
    if lines:
        fail("\n".join(lines), remedy or "each line ends with what to do")
