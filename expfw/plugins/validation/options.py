"""Checks that a plugin's class can be created with options, before a run needs it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator


def find_problems(cls: type) -> Iterator[tuple[str, str]]:
    """Yields problems of a plugin's `Config` and constructor with remedies, each worded to follow the plugin's name.

    A problem that prevents the other checks is the only one.
    """
    config_class = inspect.getattr_static(cls, "Config")
    if not inspect.isclass(config_class):
        yield ": its Config is not a class", "write @dataclass class Config: ... inside it"
        return
    if not dataclasses.is_dataclass(config_class):
        yield ": its Config is not a dataclass", "put @dataclass above it"
        return
    for name, member in vars(cls).items():
        if inspect.isclass(member) and name != "Config" and name.lower() == "config":
            yield f": its options are in a class {name!r}, which is ignored", "rename it to Config"
    if lost_options := _find_lost_options(config_class):
        problem = (
            f": its Config has the option {lost_options[0]!r} in a class that is not a dataclass, so it is ignored"
        )
        yield problem, "put @dataclass above every class that adds options"
    try:
        inspect.signature(cls).bind(None, "name")
    except TypeError as error:
        remedy = "give __init__ the arguments (self, config, name) and call super().__init__(config, name)"
        yield f" cannot be created as {cls.__name__}(config, name) ({error})", remedy


def _find_lost_options(config_class: type) -> list[str]:
    """Returns the options in subclasses of a dataclass that lack @dataclass themselves."""
    lost_options: list[str] = []
    for base in config_class.__mro__:
        if dataclasses.is_dataclass(base) and "__dataclass_fields__" not in vars(base):  # it inherits the fields only
            hints = vars(base).get("__annotations__", {}).items()
            lost_options += [name for name, hint in hints if "ClassVar" not in str(hint)]
            lost_options += [name for name, value in vars(base).items() if isinstance(value, dataclasses.Field)]
    return lost_options
