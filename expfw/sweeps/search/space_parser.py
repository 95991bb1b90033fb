"""Parser of the space of a sweep, from overrides in Hydra's syntax and from `sweep.space`."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.core.override_parser.types import Sweep as HydraSweep
from hydra.errors import HydraException
from omegaconf.errors import ValidationError

from expfw.config.quoting import explain_parse_error, quote_overrides
from expfw.errors import ConfigError, did_you_mean
from expfw.plugins.kinds import KINDS
from expfw.sweeps.search.space import Dimension, Interval, Space


def read_space(overrides: Sequence[Override], space_settings: Mapping[str, Any], seed: int) -> Space:
    """Returns the space of these overrides.

    Args:
        overrides: overrides, parsed by Hydra.
        space_settings: `sweep.space`. `{model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}` adds the inner override if
            model=cnn; conditions on an inner key are also written at the outer level. `{model.units: '16,32'}` always
            adds its override, after those of the command line.
        seed: seed of `shuffle`.

    Raises:
        ConfigError: if the overrides are invalid or ambiguous.
    """
    unconditional_overrides, conditions = _parse_conditions(space_settings, overrides)
    unique_overrides = _drop_repeated_keys(overrides)
    for key in {override.get_key_element() for override in unique_overrides} & {
        override.get_key_element() for override in unconditional_overrides
    }:
        _reject_duplicate_key(key)
    reader = _Reader(conditions, seed)
    dimensions = tuple(
        reader.make_dimension(override, (), False) for override in [*unique_overrides, *unconditional_overrides]
    )
    reader.check_all_conditions_used()
    _check_unique_keys(dimensions)
    return Space(dimensions)


def _drop_repeated_keys(overrides: Sequence[Override]) -> list[Override]:
    """Keeps the last value of a repeated fixed key, as in a run, at the position of the first."""
    overrides_by_key: dict[str, Override] = {}
    for override in overrides:
        key = override.get_key_element()
        if key in overrides_by_key and (override.is_sweep_override() or overrides_by_key[key].is_sweep_override()):
            _reject_duplicate_key(key)
        overrides_by_key[key] = override
    return list(overrides_by_key.values())


def _reject_duplicate_key(key: str) -> NoReturn:
    raise ConfigError(f"{key} is set twice for the same trial; set it once, on the command line or in sweep.space")


@dataclass(frozen=True)
class _Condition:
    """Overrides that apply to one value of a key."""

    key: str
    value: str
    overrides: Sequence[Override]


def _parse_conditions(
    space_settings: Mapping[str, Any], overrides: Sequence[Override]
) -> tuple[list[Override], list[_Condition]]:
    """Returns the entries of `sweep.space` that apply to every trial, and the conditional ones."""
    loader = next((o.config_loader for o in overrides if o.config_loader is not None), None)
    parser = OverridesParser.create(config_loader=loader)
    unconditional_overrides, conditions = [], []
    for key, inner in space_settings.items():
        if not isinstance(inner, Mapping):
            unconditional_overrides.append(_parse_override(parser, key, inner, "sweep.space"))
            continue
        for value, entries in inner.items():
            location = f"sweep.space, {key}={_format_condition_value(value)}"
            if not isinstance(entries, Mapping | None):
                raise ConfigError(
                    f"{location}: found {entries!r}; expected {{KEY: VALUES}}, such as {{train.epochs: '1,2'}}"
                )
            inner_overrides = [_parse_override(parser, k, values, location) for k, values in (entries or {}).items()]
            conditions.append(_Condition(str(key).lstrip("+"), _format_condition_value(value), inner_overrides))
    return unconditional_overrides, conditions


def _parse_override(parser: Any, key: Any, values: Any, location: str) -> Override:
    """Returns an entry of `sweep.space` as an override."""
    if isinstance(values, Mapping):
        raise ConfigError(
            f"{location}: {key} has nested conditions; write them at the top level of sweep.space: "
            f"{{{key}: {{VALUE: ...}}}}"
        )
    if isinstance(values, list | tuple):
        raise ConfigError(
            f"{location}: {key} is a list; expected text, such as '1,2' for two values, or '[1,2]' for one value that "
            "is a list"
        )
    text = values if isinstance(values, str) else Transformer.str(values)
    try:
        (override,) = parser.parse_overrides(quote_overrides([f"{key}={text}"]))
    except HydraException as error:
        raise ConfigError(f"{location}: {explain_parse_error(f'{key}={text}', error)}") from error
    return override


def _format_condition_value(value: Any) -> str:
    """Returns a value as in a condition: without quotes."""
    if isinstance(value, QuotedString):
        return str(value.text)
    if isinstance(value, str):
        return value
    return str(Transformer.str(value)).lower() if isinstance(value, bool) else str(Transformer.str(value))


def _format_override_value(value: Any) -> str:
    """Returns a value as in an override, without the quotes that `quote_overrides` adds itself."""
    text = str(Transformer.str(value))
    is_plain = (
        isinstance(value, QuotedString) and text != value.text and quote_overrides([f"={value.text}"]) == [f"={text}"]
    )
    return str(value.text) if is_plain else text


@dataclass
class _Reader:
    """Converts overrides to dimensions, including conditional ones."""

    conditions: Sequence[_Condition]
    seed: int
    seen_keys: set[str] = field(default_factory=set)
    used_conditions: set[tuple[str, str]] = field(default_factory=set)

    def make_dimension(self, override: Override, condition: tuple[str, ...], is_optional: bool) -> Dimension:
        """Returns an override as a dimension.

        Args:
            override: parsed override.
            condition: values of other dimensions that it depends on.
            is_optional: whether some trials do not have it.
        """
        key = override.get_key_element()
        name = key.lstrip("+")
        if any(name == outer.partition("=")[0] for outer in condition):  # otherwise it would depend on itself
            _reject_duplicate_key(key)
        is_swept = is_optional or override.is_sweep_override()
        conditions = [candidate for candidate in self.conditions if candidate.key == name]
        self.seen_keys.add(name)
        try:
            values = self._read_values(override)
            if isinstance(values, Interval):
                return Dimension(key, values, is_swept, {}, condition)
            branches = {}
            for value in values if conditions else ():
                inner_condition = (*condition, f"{name}={_format_condition_value(value)}")
                inner_overrides = [
                    o
                    for candidate in conditions
                    if candidate.value == _format_condition_value(value)
                    for o in candidate.overrides
                ]
                self.used_conditions.add((name, _format_condition_value(value)))
                branches[_format_override_value(value)] = tuple(
                    self.make_dimension(o, inner_condition, is_swept) for o in inner_overrides
                )
            texts = values if isinstance(values, range) else tuple(map(_format_override_value, values))
        except ValidationError as error:
            raise ConfigError(
                f"{override.input_line} has an interval or several values inside one value; expected {key}=1,2 or "
                f"{key}=interval(0.1,1.0); in sweep.space, write the values in quotes"
            ) from error
        except (ValueError, HydraException) as error:
            raise ConfigError(f"cannot sweep over {override.input_line}: {error}") from error
        return Dimension(key, texts, is_swept, {text: branch for text, branch in branches.items() if branch}, condition)

    def _read_values(self, override: Override) -> Sequence[Any] | Interval:
        """Returns the values of an override; a range of whole numbers stays a range."""
        value = override.value()
        if isinstance(value, IntervalSweep):
            return _make_interval(override, value)
        if not isinstance(value, HydraSweep | Glob):
            return [override._value]
        values: Sequence[Any]
        if isinstance(value, RangeSweep):
            values = value_range if isinstance(value_range := value.range(), range) else list(value_range)
        else:
            values = value.list if isinstance(value, ChoiceSweep) else list(override.sweep_iterator())
        if not values:
            raise ConfigError(f"{override.input_line} has no values; expected at least one")
        if getattr(value, "shuffle", False):
            values = list(values)
            random.Random(f"{self.seed} {override.get_key_element()}").shuffle(values)
        return values

    def check_all_conditions_used(self) -> None:
        """Raises ConfigError if a condition is never met."""
        for condition in self.conditions:
            if condition.key not in self.seen_keys:
                suggestion = "" if condition.key in KINDS else did_you_mean(condition.key, [*self.seen_keys, *KINDS])
                example = f"{condition.key}={condition.value}"
                advice = suggestion or f" Add {example} to the overrides, or several values for {condition.key}"
                raise ConfigError(
                    f"sweep.space has values for {condition.key}={condition.value}, but {condition.key} is not set."
                    f"{advice}"
                )
            if (condition.key, condition.value) not in self.used_conditions:
                known_values = [value for key, value in self.used_conditions if key == condition.key]
                raise ConfigError(
                    f"sweep.space has values for {condition.key}={condition.value}, but {condition.key} never has this "
                    f"value.{did_you_mean(condition.value, known_values)} Available: "
                    f"{', '.join(sorted(known_values)) or 'an interval'}"
                )


def _make_interval(override: Override, interval_sweep: IntervalSweep) -> Interval:
    low, high, text = interval_sweep.start, interval_sweep.end, override.input_line
    is_integer = isinstance(low, int)
    if unknown_tags := interval_sweep.tags - {"log"}:
        raise ConfigError(f"{text} has the tag {', '.join(sorted(unknown_tags))}; expected the tag log or no tag")
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise ConfigError(f"{text} is from {low} to {high}; expected two finite numbers, the smaller one first")
    if "log" in interval_sweep.tags and low <= 0:
        raise ConfigError(f"{text} is logarithmic and starts at {low}; expected more than 0")
    return Interval(low, high, is_integer, "log" in interval_sweep.tags)


def _check_unique_keys(dimensions: Sequence[Dimension]) -> set[str]:
    """Returns all keys, including those in branches; raises ConfigError if a trial could have the same key twice."""
    keys: set[str] = set()
    for dimension in dimensions:
        keys_by_branch = (_check_unique_keys(branch) for branch in dimension.branches.values())
        branch_keys: set[str] = set().union(*keys_by_branch)
        for key in (keys & branch_keys) | (keys & {dimension.key}) | (branch_keys & {dimension.key}):
            _reject_duplicate_key(key)
        keys |= {dimension.key} | branch_keys
    return keys
