"""Typed options from dataclasses: defaults, descriptions, construction from plain values."""

from __future__ import annotations

import dataclasses
import operator
import re
import sys
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin

from expfw.api.options import check_bounds
from expfw.api.run_config import to_plain
from expfw.errors import ConfigError, PluginError, UnknownOptionError, did_you_mean, list_choices

_BOOLEANS = {True: True, "true": True, "yes": True, "on": True, False: False, "false": False, "no": False, "off": False}
_SCALAR_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclasses.dataclass(frozen=True)
class Option:
    """Description of one option; `choices` are all its values, or some usual ones, as text."""

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
            for inner in list_options(type(default), f"{name}."):
                value = operator.attrgetter(inner.name.removeprefix(f"{name}."))(default)
                result.append(dataclasses.replace(inner, default=value))
        else:
            required = default is dataclasses.MISSING
            description = _format_type(hint), None if required else default, field.metadata.get("help", "")
            inner_type, optional = _split_optional(hint)
            is_choice = get_origin(inner_type) is Literal
            values = get_args(inner_type) if is_choice else ("true", "false") if inner_type is bool else ()
            nulls = ("null",) if optional and values else ()
            choices = (*field.metadata.get("usual", ()), *map(str, values), *nulls)
            result.append(Option(name, *description, required, tuple(dict.fromkeys(choices))))
    return result


def make_defaults(cls: type) -> dict[str, Any]:
    """Returns the default of each option as plain values, nested; `???` for a required option.

    Raises:
        PluginError: if an option's type is not supported, or its default does not have that type.
    """
    hints, defaults = _resolve_type_hints(cls), {}
    for field in _get_option_fields(cls):
        name, hint, default = f"{cls.__qualname__}.{field.name}", hints[field.name], _get_default(field)
        _check_type(hint, name)
        value = "???" if default is dataclasses.MISSING else to_plain(default)
        try:
            # an interpolation is not checked until it is resolved
            if not dataclasses.is_dataclass(hint) and value != "???" and "${" not in str(value):
                _convert_value(hint, value, name)
        except ConfigError as error:
            raise PluginError(f"the default of option {error}") from error
        defaults[field.name] = value
    return defaults


def _get_option_fields(cls: type) -> list[dataclasses.Field[Any]]:
    """Returns the fields that are options, required ones first; internal fields are set by expfw."""
    options = [field for field in dataclasses.fields(cls) if not field.metadata.get("internal")]
    return sorted(options, key=lambda field: _get_default(field) is not dataclasses.MISSING)


def build_instance(cls: type, values: Mapping[str, Any], dotted_key: str, owner: str = "") -> Any:
    """Builds an instance of the dataclass `cls` from plain values, and validates each value.

    Errors name the `dotted_key` of the instance, empty for the root, and the `owner`, as in `of model plugin 'cnn'`.

    Raises:
        ConfigError: if a key is unknown, or a value is missing, has the wrong type or is rejected by the class.
    """
    hints = _resolve_type_hints(cls)
    prefix = f"{dotted_key}." if dotted_key else ""
    for key in values:
        if key not in hints:
            choices = list_choices(str(key), [field.name for field in _get_option_fields(cls)], prefix)
            error = UnknownOptionError(f"unknown option '{prefix}{key}'{owner and f' {owner}'}.{choices}")
            error.key = f"{prefix}{key}"
            raise error
    for field in dataclasses.fields(cls):
        if _get_default(field) is dataclasses.MISSING and values.get(field.name, "???") == "???":
            key, help_text = f"{prefix}{field.name}", field.metadata.get("help")
            raise ConfigError(f"{key} has no value; set it with {key}=VALUE{f' ({help_text})' if help_text else ''}")
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
            try:
                type_hints[name] = eval(hint, module_names, scope) if isinstance(hint, str) else hint
            except Exception as error:
                raise PluginError(
                    f"option {cls.__qualname__}.{name} has the type {hint!r}, which cannot be resolved ({error})"
                ) from error
    return {field.name: type_hints[field.name] for field in dataclasses.fields(cls)}


def _get_default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


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


def _check_type(hint: Any, option_name: str) -> None:
    inner, _ = _split_optional(hint)
    origin, arguments = get_origin(inner), get_args(inner)
    if _is_list(inner):
        _check_type(arguments[0], option_name)
    elif origin is dict and arguments[0] is str:
        _check_type(arguments[1], option_name)
    elif dataclasses.is_dataclass(inner):
        make_defaults(inner)  # type: ignore[arg-type]
    elif not (inner is Any or inner in _SCALAR_TYPES or origin is Literal):
        raise PluginError(
            f"option {option_name} has the type {inner if origin else _format_type(inner)}, which is not supported; "
            "use int, float, str, bool, Literal[...], X | None, list[X], tuple[X, ...], dict[str, X] or a dataclass"
        )


def _convert_value(hint: Any, value: Any, dotted_key: str) -> Any:
    inner, optional = _split_optional(hint)
    origin, arguments = get_origin(inner), get_args(inner)
    if inner is Any or (value is None and optional):
        return value
    if origin is Literal:
        choices = {str(argument): argument for argument in arguments}
        if str(value) in choices:
            return choices[str(value)]
        suggestion = did_you_mean(str(value), list(choices))
        raise ConfigError(
            f"{dotted_key} is {value!r}; expected one of {', '.join(choices)}{suggestion and f'.{suggestion}'}"
        )
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        return origin(_convert_value(arguments[0], v, f"{dotted_key}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert_value(arguments[1], v, f"{dotted_key}.{key}") for key, v in value.items()}
    if dataclasses.is_dataclass(inner):
        if isinstance(value, Mapping):
            return build_instance(inner, value, dotted_key)  # type: ignore[arg-type]
        raise ConfigError(
            f"{dotted_key} is {value!r}, but {dotted_key} is a group of options; write {dotted_key}.OPTION=VALUE"
        )
    if inner in _SCALAR_TYPES:
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            return _convert_scalar(inner, value)
    if origin is dict:
        expected = f"entries, such as {dotted_key}={{NAME: VALUE}}"
    elif origin in (list, tuple):
        expected = f"a list, such as {dotted_key}=[{value}]"
    else:
        expected = _SCALAR_TYPES.get(inner, _format_type(inner)) + " or null" * optional
    raise ConfigError(f"{dotted_key} is {'null' if value is None else repr(value)}; expected {expected}")


def _convert_scalar(scalar_type: Any, value: Any) -> Any:
    """Converts a number, a text or a boolean; a text may be the value of an environment variable.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: if the value does not have the type.
    """
    if scalar_type is bool:
        return _BOOLEANS[value]
    is_wrong_number = isinstance(value, bool) or (scalar_type is int and isinstance(value, float))
    if value is None or isinstance(value, (list, tuple, Mapping)) or (scalar_type is not str and is_wrong_number):
        raise TypeError
    return scalar_type(value)


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
