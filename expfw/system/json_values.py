"""JSON that every reader accepts, and its conversion to typed values.

JSON has no numbers that are not finite: they are written as the texts "NaN", "Infinity" and "-Infinity", and read as
numbers where the type is a number.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

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
        is_too_deep = text.count("[") + text.count("{") > _MAX_DEPTH and _measure_depth(value) > _MAX_DEPTH
    except RecursionError:
        is_too_deep = True
    if is_too_deep:
        raise ValueError("it is nested too deeply")
    return _replace_surrogates(value) if "\\ud" in text or "\\uD" in text else value


def normalize_json(value: Any) -> Any:
    """Returns the value as it is written, for comparisons with recorded values; NaN equals NaN."""
    return json.loads(encode_json(value))


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises `OSError` or `ValueError`."""
    return decode_json(read_bytes(path))


def build(cls: Callable[..., T], values: Any) -> T:
    """Builds an instance of a dataclass from a JSON object; ignores unknown keys.

    A field whose type is another dataclass remains a dictionary, see `complete`.

    Raises:
        ValueError: if it is not an object, or a value is missing or has another type than its field.
    """
    _require(dict, values)
    converters, required_names = _list_fields(cls)
    converted = {}
    for name, convert in converters.items():
        if name in values:
            try:
                converted[name] = convert(values[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        elif name in required_names:
            raise ValueError(f"{name} is missing")
    return cls(**converted)


def complete(cls: type, values: Any) -> dict[str, Any]:
    """Returns a JSON object with the converted fields of a dataclass, and the defaults of missing ones.

    Raises:
        ValueError: as `build`.
    """
    fields = vars(build(cls, values)).items()
    return {**values, **{name: value for name, value in fields if value is not ABSENT}}


@cache
def _list_fields(cls: Any) -> tuple[dict[str, Converter], set[str]]:
    """Returns the converter of each field by name, and the names of the fields without a default."""
    hints, fields = typing.get_type_hints(cls, include_extras=True), dataclasses.fields(cls)
    missing = dataclasses.MISSING
    required_names = {field.name for field in fields if field.default is missing and field.default_factory is missing}
    return {field.name: _make_converter(hints[field.name]) for field in fields}, required_names


@cache
def _make_converter(hint: Any) -> Converter:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if hint is float:
        return _convert_number
    if origin is Literal:
        return partial(_choose, arguments)
    if origin is Annotated:
        return partial(_restrict, _make_converter(arguments[0]), arguments[1])
    if origin in (Union, types.UnionType):
        return partial(_convert_first, [_make_converter(argument) for argument in arguments])
    if origin in (dict, Mapping):
        convert = _make_converter(arguments[1])
        return lambda value: {key: convert(inner) for key, inner in _require(dict, value).items()}
    if origin in (list, tuple, Sequence):
        convert = _make_converter(arguments[0])
        return lambda value: [convert(inner) for inner in _require(list, value)]
    return partial(complete if dataclasses.is_dataclass(hint) else _require, hint)


def _convert_number(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int and abs(value) < 1 << 1000:
        return float(value)
    if type(value) is str and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    raise ValueError(f"expected a number, not {_describe(type(value))}")


def _require(kind: type, value: Any) -> Any:
    """Returns the value, unless it has another type; true is not a whole number."""
    if type(value) is not kind:
        raise ValueError(f"expected {_describe(kind)}, not {_describe(type(value))}")
    return value


def _restrict(convert: Converter, limits: Any, value: Any) -> Any:
    converted = convert(value)
    if isinstance(limits, re.Pattern):
        if not limits.fullmatch(converted):
            raise ValueError(f"expected text like {limits.pattern}")
    elif not limits[0] <= converted <= limits[1]:
        raise ValueError(f"expected a number from {limits[0]:g} to {limits[1]:g}")
    return converted


def _choose(choices: Sequence[Any], value: Any) -> Any:
    if value not in choices:
        raise ValueError(f"expected {', '.join(map(str, choices))}, not {_describe(type(value))}")
    return value


def _convert_first(converters: Sequence[Converter], value: Any) -> Any:
    """Returns the result of the first converter that accepts the value, or raises the error of the first one."""
    errors = []
    for convert in converters:
        try:
            return convert(value)
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _describe(kind: type) -> str:
    names = {type(None): "null", bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return {**names, list: "a list", dict: "an object"}.get(kind, kind.__name__)


def _name_not_finite(value: Any) -> Any:
    """Replaces numbers that are not finite by their names; `json.dumps` does it in keys."""
    if isinstance(value, dict):
        return {key: _name_not_finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_name_not_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def _replace_surrogates(value: Any) -> Any:
    """Replaces halves of surrogate pairs, which cannot be encoded, by question marks."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _measure_depth(value: Any) -> int:
    content = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if content is None else 1 + max(map(_measure_depth, content), default=0)
