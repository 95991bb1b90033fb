"""Composes the configurations of a sweep: what only differs in plain values is composed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from omegaconf import Container, OmegaConf, open_dict

from expfw.config.quoting import readable

if TYPE_CHECKING:
    from omegaconf import DictConfig

_MOST_KEPT = 16
_PLAIN = (str, int, float, bool, QuotedString, type(None))


class Composer:
    """Gives what `compose` gives, sooner: Hydra takes 0.1 s for what is the same again where only `seed=3` differs.

    A value that replaces another one, where no group has its key and no other value has to do with it, is put
    into a copy of what was composed before; this is the last thing that Hydra does, too.

    Args:
        compose: makes a configuration of all overrides of a job.
    """

    def __init__(self, compose: Callable[[Sequence[str]], DictConfig]) -> None:
        self._compose = compose
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._values: set[str] = set()  # keys known to be of values

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a job; raises what `compose` raises."""
        overrides = readable(overrides)
        parsed = OverridesParser.create().parse_overrides(overrides)
        known = self._composed.get(self._likeness(parsed))
        if known is not None:
            made = copy.deepcopy(known)
            if _changed(made, parsed, self._values):
                return made
        made = _without_the_rest_of_hydra(self._compose(overrides))
        self._values |= {o.key_or_group for o in parsed if _replaces_a_value(o, parsed, made)}
        while len(self._composed) >= _MOST_KEPT:
            del self._composed[next(iter(self._composed))]
        self._composed[self._likeness(parsed)] = copy.deepcopy(made)
        return made

    def _likeness(self, parsed: Sequence[Override]) -> tuple[str, ...]:
        """The same for jobs that differ in values only."""
        return tuple(
            f"{override.key_or_group}=" if self._is_value(override) else str(override.input_line) for override in parsed
        )

    def _is_value(self, override: Override) -> bool:
        return _is_plain(override) and override.key_or_group in self._values


def _without_the_rest_of_hydra(composed: DictConfig) -> DictConfig:
    """A copy with no more of Hydra's own node than is needed: that node is larger than all the rest."""
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    kept = {"overrides": composed.hydra.overrides, "runtime": {"choices": composed.hydra.runtime.choices}}
    with open_dict(own):
        own.hydra = kept
    return own


def _is_plain(override: Override) -> bool:
    return override.type == OverrideType.CHANGE and override.package is None and isinstance(override._value, _PLAIN)


def _replaces_a_value(override: Override, parsed: Sequence[Override], composed: DictConfig) -> bool:
    """Whether it says no more than that one value in the configuration is another."""
    key = override.key_or_group
    groups = {str(choice).partition("@")[0] for choice in composed.hydra.runtime.choices}
    if not _is_plain(override) or key in groups or key.startswith("hydra."):
        return False
    if _met(key, [other for other in parsed if other.key_or_group not in groups]):
        return False
    parent = OmegaConf.select(composed, key.rpartition(".")[0]) if "." in key else composed
    name = key.rpartition(".")[2]
    if not OmegaConf.is_dict(parent) or name not in parent:
        return False
    return not isinstance(parent._get_node(name), Container)


def _met(key: str, values: Sequence[Override]) -> bool:
    """Whether another override is of the same key, of a part of it, or of what it is a part of.

    Args:
        values: all overrides but choices of groups, which are the same for both and come before all values.
    """
    others = [other.key_or_group for other in values]
    related = [o for o in others if o == key or o.startswith(f"{key}.") or key.startswith(f"{o}.")]
    return len(related) > 1


def _changed(composed: DictConfig, parsed: Sequence[Override], values: set[str]) -> bool:
    """Puts the values of these overrides in; returns whether that went well."""
    task: Any = composed.hydra.overrides.task
    own = [override for override in parsed if not override.is_hydra_override()]
    new = [(n, o) for n, o in enumerate(own) if task[n] != o.input_line]
    if not all(_replaces_a_value(o, parsed, composed) and o.key_or_group in values for _, o in new):
        return False
    try:
        ConfigLoaderImpl._apply_overrides_to_config([o for _, o in new], composed)
    except Exception:  # composing anew says what is wrong, as it always does
        return False
    for number, override in new:
        task[number] = override.input_line
    return True
