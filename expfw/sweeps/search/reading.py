"""Reads the space of a sweep from its overrides, in Hydra's syntax, and from `sweep.space`."""

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

from expfw.config.quoting import readable, unread
from expfw.errors import ConfigError, did_you_mean
from expfw.plugins.kinds import KINDS
from expfw.sweeps.search.space import Dimension, Interval, Space


def read_space(arguments: Sequence[Override], conditional: Mapping[str, Any], seed: int) -> Space:
    """The space that these overrides span.

    Args:
        arguments: as Hydra's parser gives them.
        conditional: `sweep.space`. `{model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}` has the inner override where
            model=cnn; conditions of an inner key are written at the outer level, too. `{model.units: '16,32'}` has
            its override always, behind those of the command line.
        seed: of `shuffle`.

    Raises:
        ConfigError: what is asked for cannot be, or is not clear.
    """
    always, conditions = _conditions(conditional, arguments)
    given = _without_repetition(arguments)
    for key in {override.get_key_element() for override in given} & {override.get_key_element() for override in always}:
        _given_twice(key)
    reader = _Reader(conditions, seed)
    dimensions = tuple(reader.dimension(override, (), False) for override in [*given, *always])
    reader.check_all_used()
    _check_given_once(dimensions)
    return Space(dimensions)


def _without_repetition(arguments: Sequence[Override]) -> list[Override]:
    """A fixed key that is given several times has its last value, as in a run, where the first one stood."""
    kept: dict[str, Override] = {}
    for override in arguments:
        key = override.get_key_element()
        if key in kept and (override.is_sweep_override() or kept[key].is_sweep_override()):
            _given_twice(key)
        kept[key] = override
    return list(kept.values())


def _given_twice(key: str) -> NoReturn:
    raise ConfigError(f"{key} is given twice for the same job; give it once, on the command line or in sweep.space")


@dataclass(frozen=True)
class _Condition:
    """What is there for one value of a key."""

    key: str
    value: str
    overrides: Sequence[Override]


def _conditions(space: Mapping[str, Any], arguments: Sequence[Override]) -> tuple[list[Override], list[_Condition]]:
    """What `sweep.space` has for every job, and what only for some."""
    loader = next((o.config_loader for o in arguments if o.config_loader is not None), None)
    parser = OverridesParser.create(config_loader=loader)
    always, conditions = [], []
    for key, inner in space.items():
        if not isinstance(inner, Mapping):
            always.append(_parsed(parser, key, inner, "sweep.space"))
            continue
        for value, entries in inner.items():
            where = f"sweep.space, {key}={_said(value)}"
            if not isinstance(entries, Mapping | None):
                raise ConfigError(
                    f"{where}: found {entries!r}; expected {{KEY: VALUES}}, such as {{train.epochs: '1,2'}}"
                )
            parsed = [_parsed(parser, k, values, where) for k, values in (entries or {}).items()]
            conditions.append(_Condition(str(key).lstrip("+"), _said(value), parsed))
    return always, conditions


def _parsed(parser: Any, key: Any, values: Any, where: str) -> Override:
    """An entry of `sweep.space` as an override."""
    if isinstance(values, Mapping):
        raise ConfigError(
            f"{where}: {key} has conditions of its own; write them beside the others: {{{key}: {{VALUE: ...}}}}"
        )
    if isinstance(values, list | tuple):
        raise ConfigError(
            f"{where}: {key} is a list; expected text, such as '1,2' for two values, or '[1,2]' for one that is a list"
        )
    text = values if isinstance(values, str) else Transformer.str(values)
    try:
        (parsed,) = parser.parse_overrides(readable([f"{key}={text}"]))
    except HydraException as error:
        raise ConfigError(f"{where}: {unread(f'{key}={text}', error)}") from error
    return parsed


def _said(value: Any) -> str:
    """A value as it is written in a condition: without quotes."""
    if isinstance(value, QuotedString):
        return str(value.text)
    if isinstance(value, str):
        return value
    return str(Transformer.str(value)).lower() if isinstance(value, bool) else str(Transformer.str(value))


def _text(value: Any) -> str:
    """A value as in an override; without quotes that `readable` puts around it by itself."""
    text = str(Transformer.str(value))
    plain = isinstance(value, QuotedString) and text != value.text and readable([f"={value.text}"]) == [f"={text}"]
    return str(value.text) if plain else text


@dataclass
class _Reader:
    """Makes dimensions of overrides, with what depends on their values."""

    conditions: Sequence[_Condition]
    seed: int
    met: set[str] = field(default_factory=set)
    used: set[tuple[str, str]] = field(default_factory=set)

    def dimension(self, override: Override, condition: tuple[str, ...], differs: bool) -> Dimension:
        """An override as a dimension.

        Args:
            condition: what it is there for; differs: whether some jobs do not have it.
        """
        key = override.get_key_element()
        name = key.lstrip("+")
        if any(name == outer.partition("=")[0] for outer in condition):  # else it would depend on itself
            _given_twice(key)
        swept = differs or override.is_sweep_override()
        mine = [one for one in self.conditions if one.key == name]
        self.met.add(name)
        try:
            values = self._values(override)
            if isinstance(values, Interval):
                return Dimension(key, values, swept, {}, condition)
            branches = {}
            for value in values if mine else ():
                inside = (*condition, f"{name}={_said(value)}")
                inner = [o for one in mine if one.value == _said(value) for o in one.overrides]
                self.used.add((name, _said(value)))
                branches[_text(value)] = tuple(self.dimension(o, inside, swept) for o in inner)
            texts = values if isinstance(values, range) else tuple(map(_text, values))
        except ValidationError as error:
            raise ConfigError(
                f"{override.input_line} has an interval, or several values, within a value; give {key} values such as "
                f"1,2 or an interval(0.1,1.0) alone; in sweep.space, each in quotes"
            ) from error
        except (ValueError, HydraException) as error:
            raise ConfigError(f"{override.input_line} cannot be swept over: {error}") from error
        return Dimension(key, texts, swept, {text: branch for text, branch in branches.items() if branch}, condition)

    def _values(self, override: Override) -> Sequence[Any] | Interval:
        """What Hydra read, a range of whole numbers still as one."""
        value = override.value()
        if isinstance(value, IntervalSweep):
            return _interval(override, value)
        if not isinstance(value, HydraSweep | Glob):
            return [override._value]
        values: Sequence[Any]
        if isinstance(value, RangeSweep):
            values = made if isinstance(made := value.range(), range) else list(made)
        else:
            values = value.list if isinstance(value, ChoiceSweep) else list(override.sweep_iterator())
        if not values:
            raise ConfigError(f"{override.input_line} has no values; expected one at least")
        if getattr(value, "shuffle", False):
            values = list(values)
            random.Random(f"{self.seed} {override.get_key_element()}").shuffle(values)
        return values

    def check_all_used(self) -> None:
        """Raises where a condition is never met."""
        for one in self.conditions:
            if one.key not in self.met:
                meant = "" if one.key in KINDS else did_you_mean(one.key, [*self.met, *KINDS])
                advice = meant or f" Add {one.key}={one.value}, or several values"
                raise ConfigError(
                    f"sweep.space has something for {one.key}={one.value}, but {one.key} is not given.{advice}"
                )
            if (one.key, one.value) not in self.used:
                known = [value for key, value in self.used if key == one.key]
                raise ConfigError(
                    f"sweep.space has something for {one.key}={one.value}, which {one.key} never is."
                    f"{did_you_mean(one.value, known)} It is: {', '.join(sorted(known)) or 'an interval'}"
                )


def _interval(override: Override, found: IntervalSweep) -> Interval:
    low, high, text = found.start, found.end, override.input_line
    whole = isinstance(low, int)
    if unknown := found.tags - {"log"}:
        raise ConfigError(f"{text} has the tag {', '.join(sorted(unknown))}; expected no tag, or log")
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise ConfigError(f"{text} is from {low} to {high}; expected the smaller number first, and then the larger one")
    if "log" in found.tags and low <= 0:
        raise ConfigError(f"{text} is logarithmic from {low}; expected more than 0")
    return Interval(low, high, whole, "log" in found.tags)


def _check_given_once(dimensions: Sequence[Dimension]) -> set[str]:
    """All keys of these and their branches; raises where two that one job may have are the same."""
    keys: set[str] = set()
    for dimension in dimensions:
        inner = (_check_given_once(branch) for branch in dimension.branches.values())
        depending: set[str] = set().union(*inner)
        for key in (keys & depending) | (keys & {dimension.key}) | (depending & {dimension.key}):
            _given_twice(key)
        keys |= {dimension.key} | depending
    return keys
