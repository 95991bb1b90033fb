"""Whether the class of a plugin can be made with options: what `run` would stumble over, told beforehand."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator


def find_problems(cls: type) -> Iterator[tuple[str, str]]:
    """What is wrong with the `Config` of a plugin's class and with how it is made, and what to do.

    Each one is to be read behind the name of the plugin; none but the first where that spoils the others.
    """
    config_class = inspect.getattr_static(cls, "Config")
    if not inspect.isclass(config_class):
        yield ": its Config is no class", "write @dataclass class Config: ... inside of it"
        return
    if not dataclasses.is_dataclass(config_class):
        yield ": its Config is not a dataclass", "put @dataclass above it"
        return
    for name, member in vars(cls).items():
        if inspect.isclass(member) and name != "Config" and name.lower() == "config":
            yield f": its options are in a class {name!r}, where nobody looks for them", "name it Config"
    if lost_options := _find_lost_options(config_class):
        problem = (
            f": its Config has the option {lost_options[0]!r}, which is lost since a class there is not a dataclass"
        )
        yield problem, "put @dataclass above every class that adds options"
    try:
        inspect.signature(cls).bind(None, "name")
    except TypeError as error:
        remedy = "give __init__ the arguments (self, config, name) and call super().__init__(config, name)"
        yield f" cannot be made as {cls.__name__}(config, name) ({error})", remedy


def _find_lost_options(config_class: type) -> list[str]:
    """What looks like an option in a class that extends a dataclass and is none itself."""
    lost_options: list[str] = []
    for base in config_class.__mro__:
        if dataclasses.is_dataclass(base) and "__dataclass_fields__" not in vars(base):  # it only inherits them
            hints = vars(base).get("__annotations__", {}).items()
            lost_options += [name for name, hint in hints if "ClassVar" not in str(hint)]
            lost_options += [name for name, value in vars(base).items() if isinstance(value, dataclasses.Field)]
    return lost_options
