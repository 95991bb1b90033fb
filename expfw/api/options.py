"""Dataclass fields for options, with help texts and bounds."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields
from typing import Any, TypeVar

T = TypeVar("T")


_BOUNDS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "at_least": (operator.ge, "{:g} or more"),
    "more_than": (operator.gt, "more than {:g}"),
    "at_most": (operator.le, "at most {:g}"),
    "less_than": (operator.lt, "less than {:g}"),
}
"""Comparison of a value with each kind of bound, and its text in errors; NaN is false in each comparison."""


def check_bounds(cls: type, values: Mapping[str, Any]) -> None:
    """Checks the values of a dataclass against the bounds of its options; None and text have no bounds.

    Raises:
        ValueError: if a number, or an item of a list or mapping, is not in its bounds.
    """
    for cls_field in fields(cls):
        if cls_field.name in values:
            _check_value(cls_field.name, values[cls_field.name], cls_field.metadata.get("bounds", {}))


def _check_value(name: str, value: Any, bounds: Mapping[str, float]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_value(f"{name}.{key}", item, bounds)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_value(f"{name}[{index}]", item, bounds)
    elif isinstance(value, (int, float)) and not all(_BOUNDS[kind][0](value, bound) for kind, bound in bounds.items()):
        texts = [_BOUNDS[kind][1].format(bound) for kind, bound in bounds.items() if math.isfinite(bound)]
        raise ValueError(f"{name} is {value}; expected {' and '.join(texts) or 'a finite number'}")


def option(
    default: T,
    help: str = "",
    usual: Sequence[str] = (),
    *,
    at_least: float | None = None,
    more_than: float | None = None,
    at_most: float | None = None,
    less_than: float | None = None,
) -> T:
    """Returns a dataclass field with a help text; a list, dict or dataclass default is copied for each instance.

    The declared return type is that of the default, as with `dataclasses.field`. The bounds hold for numbers, and for
    each number in a list or mapping. A value outside them is rejected when the configuration is validated; check
    anything else in `__post_init__`.

    Args:
        default: default value.
        help: help text.
        usual: usual values, for shell completion; other values are valid too.
        at_least: smallest valid value.
        more_than: value that must be exceeded.
        at_most: largest valid value.
        less_than: value that must not be reached; infinity for "any finite number".
    """
    bounds = {"at_least": at_least, "more_than": more_than, "at_most": at_most, "less_than": less_than}
    given_bounds = {kind: bound for kind, bound in bounds.items() if bound is not None}
    metadata = {"help": help, "usual": tuple(usual), "bounds": given_bounds}
    if isinstance(default, (list, dict, set)) or hasattr(default, "__dataclass_fields__"):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)
