"""Dataclass fields for options, with help texts and bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number, or of each number in a list or mapping; None and text have no bounds.

    Attributes:
        at_least: smallest valid value.
        more_than: value that must be exceeded.
        at_most: largest valid value.
        less_than: value that must not be reached; infinity for "any finite number".
    """

    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None

    def __str__(self) -> str:
        """The bounds as they stand in an error, for example `0 or more and less than 1`."""
        parts = {
            "{:g} or more": self.at_least,
            "more than {:g}": self.more_than,
            "at most {:g}": self.at_most,
            "less than {:g}": self.less_than,
        }
        texts = [text.format(bound) for text, bound in parts.items() if bound is not None and math.isfinite(bound)]
        return " and ".join(texts) or "a finite number"

    def check(self, name: str, value: Any) -> None:
        """Checks a value, or each item of a list or mapping.

        Raises:
            ValueError: if a number is not in the bounds; NaN never is.
        """
        if isinstance(value, Mapping):
            for key, item in value.items():
                self.check(f"{name}.{key}", item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.check(f"{name}[{index}]", item)
        elif isinstance(value, (int, float)) and not (  # NaN is false in each comparison
            (self.at_least is None or value >= self.at_least)
            and (self.more_than is None or value > self.more_than)
            and (self.at_most is None or value <= self.at_most)
            and (self.less_than is None or value < self.less_than)
        ):
            raise ValueError(f"{name} is {value}; expected {self}")


def check_bounds(cls: type, values: Mapping[str, Any]) -> None:
    """Checks the values of a dataclass against the bounds of its options.

    Raises:
        ValueError: if a value is not in its bounds.
    """
    for cls_field in fields(cls):
        if cls_field.name in values and (bounds := cls_field.metadata.get("bounds")):
            bounds.check(cls_field.name, values[cls_field.name])


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
    metadata = {"help": help, "usual": tuple(usual), "bounds": Bounds(at_least, more_than, at_most, less_than)}
    if isinstance(default, (list, dict, set)):
        default_type = type(default)
        return field(default_factory=lambda: default_type(default), metadata=metadata)
    if hasattr(default, "__dataclass_fields__"):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)
