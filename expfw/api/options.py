"""A field of a dataclass of options, with its help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TypeVar

T = TypeVar("T")


def option(default: T, help: str = "", usual: Sequence[str] = ()) -> T:
    """A dataclass field with a help text; a list, dict or dataclass default is copied for each instance.

    The return type is a white lie that dataclass authors know from `dataclasses.field`.

    Args:
        usual: some of the values that it takes, for completion in the shell; any other is as good.
    """
    metadata = {"help": help, "usual": tuple(usual)}
    if isinstance(default, (list, dict, set)):
        default_type = type(default)
        return field(default_factory=lambda: default_type(default), metadata=metadata)
    if hasattr(default, "__dataclass_fields__"):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)
