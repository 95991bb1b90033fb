"""Parser of the space of a sweep, from overrides in Hydra's syntax and from `sweep.space`."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NoReturn

from hydra.core.override_parser import types
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import ValidationError

from expfw.config.quoting import explain_parse_error, quote_overrides
from expfw.errors import ConfigError, did_you_mean, list_choices
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
    overrides_by_key: dict[str, Override] = {}
    for override in overrides:  # of a repeated fixed key, the last value counts, as in a run
        key = override.get_key_element()
        if key in overrides_by_key and (override.is_sweep_override() or overrides_by_key[key].is_sweep_override()):
            _reject_duplicate_key(key)
        overrides_by_key[key] = override
    loader = next((override.config_loader for override in overrides if override.config_loader is not None), None)
    reader = _Reader(OverridesParser.create(config_loader=loader), seed)
    unconditional_overrides = reader.read_conditions(space_settings)
    space = Space(
        tuple(
            reader.make_dimension(override, (), False)
            for override in [*overrides_by_key.values(), *unconditional_overrides]
        )
    )
    reader.check_all_conditions_used()
    for first, second in combinations(space.all_dimensions, 2):
        if first.key == second.key:
            values, others = (dict(part.partition("=")[::2] for part in d.condition) for d in (first, second))
            if all(values[key] == others[key] for key in values.keys() & others.keys()):  # a trial can meet both
                _reject_duplicate_key(first.key)
    return space


def _reject_duplicate_key(key: str) -> NoReturn:
    raise ConfigError(f"{key} is set twice for the same trial; set it once, on the command line or in sweep.space")


@dataclass
class _Reader:
    """Converts overrides to dimensions, including conditional ones.

    `conditions` contains the overrides that apply to one value of a key, by key and value. `values_by_key` contains the
    values of each key so far, none for an interval.
    """

    parser: Any
    seed: int
    conditions: dict[str, dict[str, list[Override]]] = field(default_factory=dict)
    values_by_key: dict[str, set[str]] = field(default_factory=dict)

    def read_conditions(self, space_settings: Mapping[str, Any]) -> list[Override]:
        """Reads the conditional entries of `sweep.space`; returns those that apply to every trial."""
        unconditional_overrides = []
        for key, inner in space_settings.items():
            if not isinstance(inner, Mapping):
                unconditional_overrides.append(self._parse_override(key, inner, "sweep.space"))
                continue
            for value, entries in inner.items():
                text = _format_condition_value(value)
                location = f"sweep.space, {key}={text}"
                if not isinstance(entries, Mapping | None):
                    raise ConfigError(
                        f"{location}: found {entries!r}; expected {{KEY: VALUES}}, such as {{train.epochs: '1,2'}}"
                    )
                overrides = [self._parse_override(k, values, location) for k, values in (entries or {}).items()]
                self.conditions.setdefault(str(key).lstrip("+"), {}).setdefault(text, []).extend(overrides)
        return unconditional_overrides

    def _parse_override(self, key: Any, values: Any, location: str) -> Override:
        """Returns an entry of `sweep.space` as an override."""
        if isinstance(values, Mapping | list | tuple):
            raise ConfigError(
                f"{location}: {key} is {values}; expected text, such as '1,2' for two values or '[1,2]' for one value "
                f"that is a list; conditions are never nested, but at the top level: {{{key}: {{VALUE: ...}}}}"
            )
        text = values if isinstance(values, str) else types.Transformer.str(values)
        try:
            override: Override = self.parser.parse_overrides(quote_overrides([f"{key}={text}"]))[0]
        except HydraException as error:
            raise ConfigError(f"{location}: {explain_parse_error(f'{key}={text}', error)}") from error
        return override

    def make_dimension(self, override: Override, condition: tuple[str, ...], is_optional: bool) -> Dimension:
        """Returns an override as a dimension; `is_optional` if some trials do not have it."""
        key = override.get_key_element()
        name = key.lstrip("+")
        if any(name == outer.partition("=")[0] for outer in condition):  # otherwise it would depend on itself
            _reject_duplicate_key(key)
        is_swept = is_optional or override.is_sweep_override()
        known_values = self.values_by_key.setdefault(name, set())
        try:
            values = self._read_values(override)
            if isinstance(values, Interval):
                return Dimension(key, values, is_swept, {}, condition)
            branches = {}
            for value in values if name in self.conditions else ():
                text = _format_condition_value(value)
                known_values.add(text)
                branch = tuple(
                    self.make_dimension(inner, (*condition, f"{name}={text}"), is_swept)
                    for inner in self.conditions[name].get(text, ())
                )
                if branch:
                    branches[_format_override_value(value)] = branch
            texts = values if isinstance(values, range) else tuple(map(_format_override_value, values))
            return Dimension(key, texts, is_swept, branches, condition)
        except ValidationError as error:
            raise ConfigError(
                f"{override.input_line} has an interval or several values inside one value; expected {key}=1,2 or "
                f"{key}=interval(0.1,1.0); in sweep.space, write the values in quotes"
            ) from error
        except (ValueError, HydraException) as error:
            raise ConfigError(f"cannot sweep over {override.input_line}: {error}") from error

    def _read_values(self, override: Override) -> Sequence[Any] | Interval:
        """Returns the values of an override; a range of whole numbers stays a range."""
        value = override.value()
        if isinstance(value, types.IntervalSweep):
            low, high, text, is_log = value.start, value.end, override.input_line, "log" in value.tags
            if unknown_tags := value.tags - {"log"}:
                raise ConfigError(
                    f"{text} has the tag {', '.join(sorted(unknown_tags))}; expected the tag log or no tag"
                )
            if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
                raise ConfigError(f"{text} is from {low} to {high}; expected two finite numbers, the smaller one first")
            if is_log and low <= 0:
                raise ConfigError(f"{text} is logarithmic and starts at {low}; expected more than 0")
            return Interval(low, high, is_log)
        if not isinstance(value, types.Sweep | types.Glob):
            return [override._value]  # `value()` would convert quoted text
        values: Sequence[Any]
        if isinstance(value, types.RangeSweep):
            values = value_range if isinstance(value_range := value.range(), range) else list(value_range)
        else:
            values = value.list if isinstance(value, types.ChoiceSweep) else list(override.sweep_iterator())
        if not values:
            raise ConfigError(f"{override.input_line} has no values; expected at least one")
        if getattr(value, "shuffle", False):
            values = list(values)
            random.Random(f"{self.seed} {override.get_key_element()}").shuffle(values)
        return values

    def check_all_conditions_used(self) -> None:
        """Raises ConfigError if a condition is never met."""
        for key, value in [(key, value) for key, branches in self.conditions.items() for value in branches]:
            problem = f"sweep.space has values for {key}={value}, but {key}"
            if key not in self.values_by_key:
                suggestion = did_you_mean(key, [other for other in (*self.values_by_key, *KINDS) if other != key])
                advice = suggestion or f" Add {key}={value} to the overrides, or several values for {key}"
                raise ConfigError(f"{problem} is not set.{advice}")
            known_values = sorted(self.values_by_key[key])
            if value not in known_values:
                choices = list_choices(value, known_values or ["an interval"])
                raise ConfigError(f"{problem} never has this value.{choices}")


def _format_condition_value(value: Any) -> str:
    """Returns a value as in a condition: without quotes."""
    if isinstance(value, types.QuotedString | str):
        return value if isinstance(value, str) else str(value.text)
    return str(types.Transformer.str(value)).lower() if isinstance(value, bool) else str(types.Transformer.str(value))


def _format_override_value(value: Any) -> str:
    """Returns a value as in an override, without the quotes that `quote_overrides` adds itself."""
    text = str(types.Transformer.str(value))
    is_quoted_again = isinstance(value, types.QuotedString) and quote_overrides([f"={value.text}"]) == [f"={text}"]
    return str(value.text) if is_quoted_again else text
