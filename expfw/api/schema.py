"""Dataclasses as typed options: served to OmegaConf, checked, and built from plain values."""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from expfw.errors import ConfigError, PluginError, did_you_mean

_PLAIN = (int, float, str, bool)

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclasses.dataclass(frozen=True)
class Option:
    """One option for people: its dotted name, type as text, default, help; where it is required, no default.

    Attributes:
        choices: values that it is known to take, as they are typed: all, or some that are usual.
    """

    name: str
    type: str
    default: Any
    help: str
    required: bool = False
    choices: tuple[str, ...] = ()


def options(cls: type, prefix: str = "") -> list[Option]:
    """All options of a dataclass, nested ones with dotted names."""
    listed = []
    hints = _hints(cls)
    for field in _public(cls):
        name, default, hint = prefix + field.name, _default(field), hints[field.name]
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            inner = options(type(default), name + ".")
            listed += [dataclasses.replace(o, default=_at(default, o.name[len(name) + 1 :])) for o in inner]
        else:
            required = default is dataclasses.MISSING
            about = _type_text(hint), None if required else default, field.metadata.get("help", "")
            choices = (*field.metadata.get("usual", ()), *_choices(hint))
            listed.append(Option(name, *about, required, tuple(dict.fromkeys(choices))))
    return listed


def _choices(hint: Any) -> tuple[str, ...]:
    inner, optional = _optional(hint)
    values = get_args(inner) if get_origin(inner) is Literal else ("true", "false") if inner is bool else ()
    return (*map(str, values), *(("null",) if optional and values else ()))


def omegaconf_class(cls: type, extra: Mapping[str, Any] | None = None) -> type:
    """A dataclass with the same names and defaults whose types OmegaConf can check.

    OmegaConf does not know Literal, tuples of any length or postponed nested annotations: these become the nearest type
    it knows, and `build` checks the rest.

    Args:
        cls: a dataclass.
        extra: further fields with their values, put first.

    Raises:
        PluginError: an option's type is not supported, or its default is not of that type.
    """
    hints = _hints(cls)
    if taken := hints.keys() & (extra or {}).keys():
        raise PluginError(f"option {cls.__qualname__}.{taken.pop()} has a name that is taken; choose another")
    made: list[Any] = [(name, type(value), dataclasses.field(default=value)) for name, value in (extra or {}).items()]
    for field in _public(cls):
        kind = _omegaconf_type(hints[field.name], f"{cls.__qualname__}.{field.name}")
        default = _default(field)
        if default is dataclasses.MISSING:
            made.append((field.name, kind, dataclasses.field(default="???")))
        else:
            _check_default(hints[field.name], _plain(default), f"{cls.__qualname__}.{field.name}")
            made.append((field.name, kind, _field_with(_plain(default), kind)))
    return dataclasses.make_dataclass(cls.__name__, made)


def _public(cls: type) -> list[dataclasses.Field[Any]]:
    """The fields that are options; the others are set by our own code."""
    return [field for field in dataclasses.fields(cls) if not field.metadata.get("internal")]


def build(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """An instance of the dataclass `cls` from plain values, every one of them checked.

    Args:
        cls: a dataclass.
        values: plain values by field name; fields left out take their default.
        where: dotted key of the whole, for errors; empty for the root.

    Raises:
        ConfigError: an unknown key, a missing value, a value of the wrong type or one that the class refuses.
    """
    hints = _hints(cls)
    dot = f"{where}." if where else ""
    for key in values:
        if key not in hints:
            known = [field.name for field in _public(cls)]
            meant = did_you_mean(str(key), known, dot)
            raise ConfigError(f"no option {dot}{key}.{meant} Options here: {', '.join(known) or 'none'}")
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if _default(f) is dataclasses.MISSING and values.get(f.name, "???") == "???"
    ]
    if missing:
        about = next(f.metadata.get("help", "") for f in dataclasses.fields(cls) if f.name == missing[0])
        what = f" ({about})" if about else ""
        raise ConfigError(f"{dot}{missing[0]} has no value; give one, with {dot}{missing[0]}=VALUE{what}")
    checked = {key: _convert(hints[key], value, f"{dot}{key}") for key, value in values.items()}
    try:
        return cls(**checked)
    except (ValueError, TypeError) as error:
        first = str(error).partition(" ")[0]
        raise ConfigError(f"{dot}{error}" if first in hints else f"{where or 'config'}: {error}") from error


def _hints(cls: type) -> dict[str, Any]:
    """Field types, resolved even under `from __future__ import annotations` inside a class or function."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        module = vars(sys.modules.get(base.__module__, types.ModuleType("gone")))
        scope = {**vars(typing), **{b.__name__: b for b in cls.__mro__}, **vars(base)}
        for part in base.__qualname__.split(".")[:-1]:  # classes that enclose this one, whose names it may use
            owner = scope.get(part) or module.get(part)
            scope.update(vars(owner) if isinstance(owner, type) else {})
        for name, hint in vars(base).get("__annotations__", {}).items():
            found[name] = _evaluated(hint, module, scope, f"{cls.__qualname__}.{name}")
    return {field.name: found[field.name] for field in dataclasses.fields(cls)}


def _evaluated(hint: Any, module: dict[str, Any], scope: dict[str, Any], where: str) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, module, scope)
    except Exception as error:
        raise PluginError(f"option {where} has the type {hint!r}, which cannot be resolved ({error})") from error


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _check_default(hint: Any, value: Any, where: str) -> None:
    """Refuses a default that is not of its option's type; what is interpolated shows only when it is resolved."""
    if dataclasses.is_dataclass(hint) or value == "???" or "${" in str(value):
        return
    try:
        _convert(hint, value, where)
    except ConfigError as error:
        raise PluginError(f"the default of option {error}") from error


def _at(value: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _field_with(value: Any, kind: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return dataclasses.field(default_factory=lambda: _instance(kind, value))
    if isinstance(value, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(value)(value))
    return dataclasses.field(default=value)


def _instance(kind: Any, value: Any) -> Any:
    """`value`, with mappings where `kind` has dataclasses made into these."""
    if not dataclasses.is_dataclass(kind) or not isinstance(value, dict):
        return value
    return kind(**{f.name: _instance(f.type, value[f.name]) for f in dataclasses.fields(kind)})  # type: ignore[operator]


def _optional(hint: Any) -> tuple[Any, bool]:
    """`T | None` to (T, True), any other type to (itself, False)."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [a for a in get_args(hint) if a is not type(None)]
        if len(rest) == 1 and len(get_args(hint)) == 2:
            return rest[0], True
    return hint, False


def _is_list(hint: Any) -> bool:
    """Whether it is `list[X]` or `tuple[X, ...]`: so many of one type."""
    return get_origin(hint) is list or (get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,))


def _omegaconf_type(hint: Any, where: str) -> Any:
    inner, optional = _optional(hint)
    origin, arguments = get_origin(inner), get_args(inner)
    kind: Any
    if inner is Any or inner in _PLAIN:
        kind = inner
    elif origin is Literal:
        kinds = {type(a) for a in arguments}
        kind = kinds.pop() if len(kinds) == 1 else Any
    elif _is_list(inner):
        kind = list[_omegaconf_type(arguments[0], where)]  # type: ignore[misc]
    elif origin is dict and arguments[0] is str:
        # `{1: 0.5}` has a number as its key, where ours are text: `build` makes them that
        kind = dict[Any, _omegaconf_type(arguments[1], where)]  # type: ignore[misc]
    elif dataclasses.is_dataclass(inner):
        kind = Any if optional else omegaconf_class(inner)  # type: ignore[arg-type]  # OmegaConf takes no mapping for X | None
    else:
        raise PluginError(f"option {where} has the type {_instead(inner)}")
    return typing.Optional[kind] if optional else kind  # noqa: UP045  # `|` does not take every kind made above


def _instead(hint: Any) -> str:
    """A type that a configuration cannot hold, and what to use instead."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"{hint.__name__}, and a config holds no enums; use Literal[{', '.join(map(repr, hint.__members__))}]"
    if get_origin(hint) is dict:
        key, value = map(_type_text, get_args(hint))
        return f"dict[{key}, {value}], and the keys in a config are texts; use dict[str, {value}]"
    return (
        f"{_type_text(hint)}, which a config cannot hold; use int, float, str, bool, "
        "Literal[...], X | None, list[X], tuple[X, ...], dict[str, X] or a dataclass"
    )


def _convert(hint: Any, value: Any, where: str) -> Any:
    inner, optional = _optional(hint)
    origin, arguments = get_origin(inner), get_args(inner)
    if value is None and (optional or inner is Any):
        return None
    if inner is Any:
        return value
    if origin is Literal:
        if value not in arguments:
            choices = ", ".join(map(str, arguments))
            raise ConfigError(
                f"{where} is {value!r}; expected one of {choices}.{did_you_mean(str(value), map(str, arguments))}"
            )
        return value
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        return origin(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {
            _convert(arguments[0], k, f"a key of {where}"): _convert(arguments[1], v, f"{where}.{k}")
            for k, v in value.items()
        }
    if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
        return build(inner, value, where)  # type: ignore[arg-type]
    if inner is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if inner is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # `name=3`, and interpolations of numbers
    if isinstance(inner, type) and isinstance(value, inner) and not (inner is int and isinstance(value, bool)):
        return value
    words = _WORDS.get(inner, _type_text(inner)) + " or null" * optional
    raise ConfigError(f"{where} is {value!r}; expected {words}")


def _type_text(hint: Any) -> str:
    inner, optional = _optional(hint)
    if optional:
        return f"{_type_text(inner)} or null"
    if get_origin(inner) is Literal:
        return " | ".join(map(str, get_args(inner)))
    if _is_list(inner):
        return f"list of {_type_text(get_args(inner)[0])}"
    if get_origin(inner) is dict:
        return "mapping"
    return str(inner) if get_origin(inner) else getattr(inner, "__name__", str(inner))
