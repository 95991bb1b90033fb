"""Typed options from dataclasses: conversion for OmegaConf, validation, construction from plain values."""

from __future__ import annotations

import dataclasses
import enum
import operator
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from expfw.api.options import check_bounds
from expfw.errors import ConfigError, PluginError, did_you_mean

_SCALAR_TYPES = (int, float, str, bool)

_TYPE_DESCRIPTIONS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclasses.dataclass(frozen=True)
class Option:
    """Description of one option.

    Attributes:
        name: dotted name.
        type: type as text.
        default: default value; None if the option is required.
        help: help text.
        required: whether the option has no default.
        choices: known values as text: all values, or some usual ones.
    """

    name: str
    type: str
    default: Any
    help: str
    required: bool = False
    choices: tuple[str, ...] = ()


def list_options(cls: type, prefix: str = "") -> list[Option]:
    """Returns all options of a dataclass, nested ones with dotted names."""
    result = []
    hints = _resolve_type_hints(cls)
    for field in _get_option_fields(cls):
        name, default, hint = prefix + field.name, _get_default(field), hints[field.name]
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            inner = list_options(type(default), name + ".")
            result += [
                dataclasses.replace(o, default=operator.attrgetter(o.name[len(name) + 1 :])(default)) for o in inner
            ]
        else:
            required = default is dataclasses.MISSING
            description = _format_type(hint), None if required else default, field.metadata.get("help", "")
            choices = (*field.metadata.get("usual", ()), *_list_choices(hint))
            result.append(Option(name, *description, required, tuple(dict.fromkeys(choices))))
    return result


def _list_choices(hint: Any) -> tuple[str, ...]:
    inner, optional = _split_optional(hint)
    values = get_args(inner) if get_origin(inner) is Literal else ("true", "false") if inner is bool else ()
    return (*map(str, values), *(("null",) if optional and values else ()))


def make_omegaconf_class(cls: type, extra: Mapping[str, Any] | None = None) -> type:
    """Returns a dataclass with the same names and defaults, with types that OmegaConf supports.

    OmegaConf does not support Literal, tuples of any length and postponed nested annotations. They are replaced by the
    nearest supported type, and `build_instance` validates the rest.

    Args:
        cls: a dataclass.
        extra: additional fields with their values, placed first.

    Raises:
        PluginError: if an option's type is not supported, or its default does not have that type.
    """
    hints = _resolve_type_hints(cls)
    if clashing_names := hints.keys() & (extra or {}).keys():
        raise PluginError(f"option {cls.__qualname__}.{clashing_names.pop()} has a reserved name; choose another one")
    fields: list[Any] = [(name, type(value), dataclasses.field(default=value)) for name, value in (extra or {}).items()]
    for field in _get_option_fields(cls):
        omegaconf_type = _to_omegaconf_type(hints[field.name], f"{cls.__qualname__}.{field.name}")
        default = _get_default(field)
        if default is dataclasses.MISSING:
            fields.append((field.name, omegaconf_type, dataclasses.field(default="???")))
        else:
            _check_default(hints[field.name], _to_plain(default), f"{cls.__qualname__}.{field.name}")
            fields.append((field.name, omegaconf_type, _make_field(_to_plain(default), omegaconf_type)))
    return dataclasses.make_dataclass(cls.__name__, fields)


def _get_option_fields(cls: type) -> list[dataclasses.Field[Any]]:
    """Returns the fields that are options; internal fields are set by expfw."""
    return [field for field in dataclasses.fields(cls) if not field.metadata.get("internal")]


def build_instance(cls: type, values: Mapping[str, Any], dotted_key: str) -> Any:
    """Builds an instance of the dataclass `cls` from plain values, and validates each value.

    Args:
        cls: a dataclass.
        values: plain values by field name; missing fields take their default.
        dotted_key: dotted key of the instance, for errors; empty for the root.

    Raises:
        ConfigError: if a key is unknown, or a value is missing, has the wrong type or is rejected by the class.
    """
    hints = _resolve_type_hints(cls)
    prefix = f"{dotted_key}." if dotted_key else ""
    for key in values:
        if key not in hints:
            known_names = [field.name for field in _get_option_fields(cls)]
            suggestion = did_you_mean(str(key), known_names, prefix)
            raise ConfigError(
                f"unknown option '{prefix}{key}'.{suggestion} Available: {', '.join(known_names) or 'none'}"
            )
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if _get_default(f) is dataclasses.MISSING and values.get(f.name, "???") == "???"
    ]
    if missing:
        help_text = next(f.metadata.get("help", "") for f in dataclasses.fields(cls) if f.name == missing[0])
        explanation = f" ({help_text})" if help_text else ""
        raise ConfigError(f"{prefix}{missing[0]} has no value; set it with {prefix}{missing[0]}=VALUE{explanation}")
    converted = {key: _convert_value(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    try:
        check_bounds(cls, converted)
        return cls(**converted)
    except (ValueError, TypeError) as error:
        names_option = re.match(r"\w*", str(error))[0] in hints  # type: ignore[index]
        raise ConfigError(f"{prefix}{error}" if names_option else f"{dotted_key or 'config'}: {error}") from error


def _resolve_type_hints(cls: type) -> dict[str, Any]:
    """Returns the field types, resolved even with postponed annotations inside a class or function."""
    type_hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        module_names = vars(sys.modules.get(base.__module__, types.ModuleType("gone")))
        scope = {**vars(typing), **{b.__name__: b for b in cls.__mro__}, **vars(base)}
        for part in base.__qualname__.split(".")[:-1]:  # annotations may use names of enclosing classes
            enclosing_class = scope.get(part) or module_names.get(part)
            scope.update(vars(enclosing_class) if isinstance(enclosing_class, type) else {})
        for name, hint in vars(base).get("__annotations__", {}).items():
            type_hints[name] = _evaluate_hint(hint, module_names, scope, f"{cls.__qualname__}.{name}")
    return {field.name: type_hints[field.name] for field in dataclasses.fields(cls)}


def _evaluate_hint(hint: Any, module_names: dict[str, Any], scope: dict[str, Any], option_name: str) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, module_names, scope)
    except Exception as error:
        raise PluginError(f"option {option_name} has the type {hint!r}, which cannot be resolved ({error})") from error


def _get_default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _check_default(hint: Any, value: Any, option_name: str) -> None:
    """Rejects a default of the wrong type; interpolations are not checked until they are resolved."""
    if dataclasses.is_dataclass(hint) or value == "???" or "${" in str(value):
        return
    try:
        _convert_value(hint, value, option_name)
    except ConfigError as error:
        raise PluginError(f"the default of option {error}") from error


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_to_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _to_plain(v) for k, v in value.items()}
    return value


def _make_field(value: Any, field_type: Any) -> Any:
    if dataclasses.is_dataclass(field_type):
        return dataclasses.field(default_factory=lambda: _make_instance(field_type, value))
    if isinstance(value, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(value)(value))
    return dataclasses.field(default=value)


def _make_instance(field_type: Any, value: Any) -> Any:
    """Converts mappings in `value` to the nested dataclasses of `field_type`."""
    if not dataclasses.is_dataclass(field_type) or not isinstance(value, dict):
        return value
    return field_type(**{f.name: _make_instance(f.type, value[f.name]) for f in dataclasses.fields(field_type)})  # type: ignore[operator]


def _split_optional(hint: Any) -> tuple[Any, bool]:
    """Returns (T, True) for `T | None`, and (hint, False) for any other type."""
    if get_origin(hint) in (Union, types.UnionType):
        other_types = [a for a in get_args(hint) if a is not type(None)]
        if len(other_types) == 1 and len(get_args(hint)) == 2:
            return other_types[0], True
    return hint, False


def _is_list(hint: Any) -> bool:
    """Returns whether the type is `list[X]` or `tuple[X, ...]`."""
    return get_origin(hint) is list or (get_origin(hint) is tuple and get_args(hint)[1:] == (Ellipsis,))


def _to_omegaconf_type(hint: Any, option_name: str) -> Any:
    inner, optional = _split_optional(hint)
    origin, arguments = get_origin(inner), get_args(inner)
    omegaconf_type: Any
    if inner is Any or inner in _SCALAR_TYPES:
        omegaconf_type = inner
    elif origin is Literal:
        literal_types = {type(a) for a in arguments}
        omegaconf_type = literal_types.pop() if len(literal_types) == 1 else Any
    elif _is_list(inner):
        omegaconf_type = list[_to_omegaconf_type(arguments[0], option_name)]  # type: ignore[misc]
    elif origin is dict and arguments[0] is str:
        # YAML keys like `{1: 0.5}` are numbers; `build_instance` converts them to text
        omegaconf_type = dict[Any, _to_omegaconf_type(arguments[1], option_name)]  # type: ignore[misc]
    elif dataclasses.is_dataclass(inner):
        omegaconf_type = Any if optional else make_omegaconf_class(inner)  # type: ignore[arg-type]  # OmegaConf does not accept a mapping for X | None
    else:
        raise PluginError(f"option {option_name} has the type {_explain_unsupported_type(inner)}")
    return typing.Optional[omegaconf_type] if optional else omegaconf_type  # noqa: UP045  # `|` does not take every kind made above


def _explain_unsupported_type(hint: Any) -> str:
    """Describes an unsupported type and its replacement."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"{hint.__name__}, but enums are not supported; use Literal[{', '.join(map(repr, hint.__members__))}]"
    if get_origin(hint) is dict:
        key, value = map(_format_type, get_args(hint))
        return f"dict[{key}, {value}], but keys must be text; use dict[str, {value}]"
    return (
        f"{_format_type(hint)}, which is not supported; use int, float, str, bool, "
        "Literal[...], X | None, list[X], tuple[X, ...], dict[str, X] or a dataclass"
    )


def _convert_value(hint: Any, value: Any, dotted_key: str) -> Any:
    inner, optional = _split_optional(hint)
    origin, arguments = get_origin(inner), get_args(inner)
    if value is None and (optional or inner is Any):
        return None
    if inner is Any:
        return value
    if origin is Literal:
        if value not in arguments:
            choices = [str(argument) for argument in arguments]
            suggestion = did_you_mean(str(value), choices)
            raise ConfigError(
                f"{dotted_key} is {value!r}; expected one of {', '.join(choices)}{suggestion and f'.{suggestion}'}"
            )
        return value
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        return origin(_convert_value(arguments[0], v, f"{dotted_key}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {
            _convert_value(arguments[0], k, f"a key of {dotted_key}"): _convert_value(
                arguments[1], v, f"{dotted_key}.{k}"
            )
            for k, v in value.items()
        }
    if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
        return build_instance(inner, value, dotted_key)  # type: ignore[arg-type]
    if inner is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if inner is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # `name=3`, and interpolations of numbers
    if isinstance(inner, type) and isinstance(value, inner) and not (inner is int and isinstance(value, bool)):
        return value
    expected = _TYPE_DESCRIPTIONS.get(inner, _format_type(inner)) + " or null" * optional
    raise ConfigError(f"{dotted_key} is {value!r}; expected {expected}")


def _format_type(hint: Any) -> str:
    inner, optional = _split_optional(hint)
    if optional:
        return f"{_format_type(inner)} or null"
    if get_origin(inner) is Literal:
        return " | ".join(map(str, get_args(inner)))
    if _is_list(inner):
        return f"list of {_format_type(get_args(inner)[0])}"
    if get_origin(inner) is dict:
        return "mapping"
    return str(inner) if get_origin(inner) else getattr(inner, "__name__", str(inner))
