"""A field of a dataclass of options, with its help."""

from __future__ import annotations

from dataclasses import field
from typing import TypeVar

T = TypeVar("T")


def option(default: T, help: str = "") -> T:
    """A dataclass field with a help text; a list, dict or dataclass default is copied for each instance.

    The return type is a white lie that dataclass authors know from `dataclasses.field`.
    """
    if isinstance(default, (list, dict, set)):
        made = type(default)
        return field(default_factory=lambda: made(default), metadata={"help": help})
    if hasattr(default, "__dataclass_fields__"):
        return field(default_factory=lambda: default, metadata={"help": help})
    return field(default=default, metadata={"help": help})
