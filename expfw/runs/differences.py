"""Differences between two mappings, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def find_differences(current: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key with another value."""
    for key in sorted(current.keys() | recorded.keys()):
        if current.get(key) != recorded.get(key):
            yield describe_difference(key, current.get(key, "absent"), recorded.get(key, "absent"))


def describe_difference(key: str, current: Any, recorded: Any) -> str:
    """One line: what the value is now and what it was."""
    if isinstance(current, list) and isinstance(recorded, list):
        only_current, only_recorded = (
            " ".join(sorted(set(map(str, a)) - set(map(str, b)))) for a, b in ((current, recorded), (recorded, current))
        )
        return f"{key}: now also {only_current or 'none'}, then also {only_recorded or 'none'}"
    return f"{key} is {current}, was {recorded}"
