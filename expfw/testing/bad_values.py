"""Values that are of the right type and rarely of use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from expfw import schema

_BAD: dict[str, list[Any]] = {
    "int": [-1],
    "float": [-1.0, float("nan")],
    "str": ["no such thing"],
    "list of int": [[-1]],
    "list of float": [[-1.0]],
    "list of str": [["no such thing"]],
}


def bad_values(options: type) -> Iterator[tuple[str, Any]]:
    """Each option of a `Config` that is a number, a text or a list of such, with bad values for it.

    What is of the wrong type, or none of the choices, expfw refuses by itself; nested dataclasses check theirs.
    """
    for option in schema.options(options):
        if "." not in option.name:
            for value in _BAD.get(option.type.removesuffix(" or null"), []):
                yield option.name, value
