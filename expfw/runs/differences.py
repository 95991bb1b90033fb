"""Differences between two mappings, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def find_differences(current: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Yields one line for each key with different values."""
    for key in sorted(current.keys() | recorded.keys()):
        if current.get(key) != recorded.get(key):
            yield describe_difference(key, current.get(key, "absent"), recorded.get(key, "absent"))


def describe_difference(key: str, current: Any, recorded: Any) -> str:
    """Returns one line with the current and the recorded value; for lists, the added and removed elements."""
    if isinstance(current, list) and isinstance(recorded, list):
        only_current, only_recorded = (
            " ".join(sorted(set(map(str, a)) - set(map(str, b)))) for a, b in ((current, recorded), (recorded, current))
        )
        return f"{key}: added {only_current or 'none'}, removed {only_recorded or 'none'}"
    return f"{key} is {current}, was {recorded}"
