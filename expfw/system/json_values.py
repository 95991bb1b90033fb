"""JSON that every reader accepts, and its conversion to typed values.

JSON has no numbers that are not finite: they are written as the texts "NaN", "Infinity" and "-Infinity", and read as
numbers where the type is a number. Earlier versions wrote the words without quotation marks; this is read, too.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from expfw.system.input_files import read_bytes

T = TypeVar("T")
Converter = Callable[[Any], Any]
_MAX_DEPTH = 64
"""Largest nesting of lists and objects; functions that walk a value may call themselves for each level."""
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Numbers by name; always the same objects, so that two records of the same line are equal."""
ABSENT: Any = object()
"""Default of a field that `complete` does not add."""

Count = Annotated[int, (0, 2**63 - 1)]
Seconds = Annotated[float, (0.0, 1e11)]
"""A duration, or the time since 1970."""
Identifier = Annotated[str, re.compile(r"[A-Za-z0-9_-]{1,64}")]
"""An ID, which may be a part of a file name."""


def encode_json(value: Any, indent: int | None = None) -> str:
    """Returns a value as JSON; objects of other types become text."""
    try:
        text = json.dumps(value, default=str, allow_nan=False, indent=indent)
    except ValueError:
        text = json.dumps(_name_not_finite(value), default=str, indent=indent)
    return json.dumps(_replace_surrogates(json.loads(text)), indent=indent) if "\\ud" in text else text


def decode_json(data: bytes) -> Any:
    """Returns the value of JSON in UTF-8; raises `ValueError` for anything else, and if it is nested too deeply."""
    text = data.decode()
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if text.count("[") + text.count("{") > _MAX_DEPTH and _is_too_deep(value):
        raise ValueError("it is nested too deeply")
    return _replace_surrogates(value) if "\\ud" in text or "\\uD" in text else value


def normalize_json(value: Any) -> Any:
    """Returns the value as it is written, for comparisons with recorded values; NaN equals NaN."""
    return json.loads(encode_json(value))


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises `OSError` or `ValueError`."""
    return decode_json(read_bytes(path))


def build(cls: type[T], values: Any) -> T:
    """Builds an instance of a dataclass from a JSON object; ignores unknown keys.

    Raises:
        ValueError: if it is not an object, or a value is missing or has another type than its field.
    """
    return cls(**_convert_fields(cls, values))


def complete(cls: type, values: Any) -> dict[str, Any]:
    """Returns a JSON object with the converted fields of a dataclass, and the defaults of missing ones.

    Raises:
        ValueError: as `build`.
    """
    completed: dict[str, Any] = {**_convert_fields(cls, values)}
    for field in _list_fields(cls):
        if field.name not in completed and field.make_default is not None:
            completed[field.name] = field.make_default()
    return {**values, **completed}


def _convert_fields(cls: type, values: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that a JSON object contains; see `build`."""
    if type(values) is not dict:
        raise ValueError(f"expected an object, not {_describe(values)}")
    converted = {}
    for field in _list_fields(cls):
        if field.name in values:
            try:
                converted[field.name] = field.convert(values[field.name])
            except ValueError as error:
                raise ValueError(f"{field.name}: {error}") from error
        elif field.is_required:
            raise ValueError(f"{field.name} is missing")
    return converted


class _Field(NamedTuple):
    """A field of a dataclass; `make_default` is None if it is required, or not added to an object."""

    name: str
    convert: Converter
    is_required: bool
    make_default: Callable[[], Any] | None


@cache
def _list_fields(cls: type) -> list[_Field]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = []
    for field in dataclasses.fields(cls):
        make_default: Callable[[], Any] | None = None
        if field.default_factory is not dataclasses.MISSING:
            make_default = field.default_factory
        elif field.default is not dataclasses.MISSING and field.default is not ABSENT:
            make_default = partial(copy.copy, field.default)
        is_required = make_default is None and field.default is not ABSENT
        fields.append(_Field(field.name, _make_converter(hints[field.name]), is_required, make_default))
    return fields


@cache
def _make_converter(hint: Any) -> Converter:
    """Returns the function that converts a JSON value to a type, or raises `ValueError`."""
    origin, arguments = get_origin(hint), get_args(hint)
    schema: type = hint
    if hint is Any:
        return lambda value: value
    if origin is Annotated:
        return _make_restricted(_make_converter(arguments[0]), arguments[1])
    if origin in (Union, types.UnionType):
        return _make_union([_make_converter(argument) for argument in arguments])
    if origin is Literal:
        return _make_choice(arguments)
    if origin in (dict, Mapping):
        return _make_mapping(_make_converter(arguments[1]))
    if origin in (list, tuple, Sequence):
        return _make_list(_make_converter(arguments[0]))
    if dataclasses.is_dataclass(hint):  # it describes an object, which stays a dictionary
        return partial(complete, schema)
    if hint is float:
        return _to_float
    return _make_exact(hint)


def _to_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int and abs(value) < 1 << 1000:
        return float(value)
    if type(value) is str and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    raise ValueError(f"expected a number, not {_describe(value)}")


def _make_exact(kind: type) -> Converter:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {_NAMES[kind]}, not {_describe(value)}")
        return value

    return convert


def _make_restricted(convert: Converter, limits: Any) -> Converter:
    def convert_restricted(value: Any) -> Any:
        converted = convert(value)
        if isinstance(limits, re.Pattern):
            if not limits.fullmatch(converted):
                raise ValueError(f"expected text like {limits.pattern}")
        elif not limits[0] <= converted <= limits[1]:
            raise ValueError(f"expected a number from {limits[0]:g} to {limits[1]:g}")
        return converted

    return convert_restricted


def _make_union(converters: Sequence[Converter]) -> Converter:
    def convert(value: Any) -> Any:
        errors = []
        for converter in converters:
            try:
                return converter(value)
            except ValueError as error:
                errors.append(error)
        raise errors[0]

    return convert


def _make_choice(choices: Sequence[Any]) -> Converter:
    def convert(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"expected {', '.join(map(str, choices))}, not {_describe(value)}")
        return value

    return convert


def _make_mapping(convert: Converter) -> Converter:
    def convert_mapping(value: Any) -> Any:
        if type(value) is not dict:
            raise ValueError(f"expected an object, not {_describe(value)}")
        return {key: convert(inner) for key, inner in value.items()}

    return convert_mapping


def _make_list(convert: Converter) -> Converter:
    def convert_list(value: Any) -> Any:
        if type(value) is not list:
            raise ValueError(f"expected a list, not {_describe(value)}")
        return [convert(inner) for inner in value]

    return convert_list


_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def _describe(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _name_not_finite(value: Any) -> Any:
    """Replaces numbers that are not finite by their names, also in keys."""
    if isinstance(value, dict):
        names = {key: _name_not_finite(key) if isinstance(key, float) else key for key in value}
        return {names[key]: _name_not_finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_name_not_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def _replace_surrogates(value: Any) -> Any:
    """Replaces halves of surrogate pairs, which cannot be encoded, by question marks."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        parts = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list))]
        if not parts:
            return False
        level = [inner for part in parts for inner in part]
    return True
