"""Composition of a sweep's configurations; those that differ only in plain values are composed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, QuotedString
from omegaconf import Container, OmegaConf, open_dict

from expfw.config.quoting import quote_overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

_MAX_CONFIGS = 16
_PLAIN_TYPES = (str, int, float, bool, QuotedString, type(None))


class Composer:
    """Returns the same as `compose`, faster: Hydra needs 0.1 s per configuration, even if only `seed=3` differs.

    An override is applied to a copy of an earlier configuration if it only replaces a plain value, if no group has its
    key, and if no other override changes a part of the same value. Hydra applies such overrides last, too.

    Args:
        compose: function that composes a configuration from all overrides of a trial.
    """

    def __init__(self, compose: Callable[[Sequence[str]], DictConfig]) -> None:
        self._compose = compose
        self._configs: dict[tuple[str, ...], DictConfig] = {}
        self._value_keys: set[str] = set()  # keys known to be plain values, not groups

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """Returns the configuration of a trial; raises the same errors as `compose`."""
        overrides = quote_overrides(overrides)
        parsed = OverridesParser.create().parse_overrides(overrides)
        cached = self._configs.get(self._make_cache_key(parsed))
        if cached is not None:
            config = copy.deepcopy(cached)
            if _apply_values(config, parsed, self._value_keys):
                return config
        config = _strip_hydra_node(self._compose(overrides))
        self._value_keys |= {o.key_or_group for o in parsed if _is_value_replacement(o, parsed, config)}
        while len(self._configs) >= _MAX_CONFIGS:
            del self._configs[next(iter(self._configs))]
        self._configs[self._make_cache_key(parsed)] = copy.deepcopy(config)
        return config

    def _make_cache_key(self, parsed: Sequence[Override]) -> tuple[str, ...]:
        """Returns the same key for trials that differ only in values."""
        return tuple(
            f"{override.key_or_group}=" if self._is_value(override) else str(override.input_line) for override in parsed
        )

    def _is_value(self, override: Override) -> bool:
        return _is_plain(override) and override.key_or_group in self._value_keys


def _strip_hydra_node(composed: DictConfig) -> DictConfig:
    """Copies a configuration without most of Hydra's own node, which is larger than the rest."""
    stripped = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    hydra_node = {"overrides": composed.hydra.overrides, "runtime": {"choices": composed.hydra.runtime.choices}}
    with open_dict(stripped):
        stripped.hydra = hydra_node
    return stripped


def _is_plain(override: Override) -> bool:
    return (
        override.type == OverrideType.CHANGE and override.package is None and isinstance(override._value, _PLAIN_TYPES)
    )


def _is_value_replacement(override: Override, parsed: Sequence[Override], composed: DictConfig) -> bool:
    """Whether the override only replaces one plain value in the configuration."""
    key = override.key_or_group
    groups = {str(choice).partition("@")[0] for choice in composed.hydra.runtime.choices}
    if not _is_plain(override) or key in groups or key.startswith("hydra."):
        return False
    if _has_related_override(key, [other for other in parsed if other.key_or_group not in groups]):
        return False
    parent = OmegaConf.select(composed, key.rpartition(".")[0]) if "." in key else composed
    name = key.rpartition(".")[2]
    if not OmegaConf.is_dict(parent) or name not in parent:
        return False
    return not isinstance(parent._get_node(name), Container)


def _has_related_override(key: str, values: Sequence[Override]) -> bool:
    """Whether another override has the same key, a key below it or a key above it.

    Args:
        values: all overrides except group choices; these are equal for both and Hydra applies them before all values.
    """
    keys = [other.key_or_group for other in values]
    related = [o for o in keys if o == key or o.startswith(f"{key}.") or key.startswith(f"{o}.")]
    return len(related) > 1


def _apply_values(composed: DictConfig, parsed: Sequence[Override], value_keys: set[str]) -> bool:
    """Applies the values of these overrides to a configuration; returns whether this succeeded."""
    task: Any = composed.hydra.overrides.task
    own_overrides = [override for override in parsed if not override.is_hydra_override()]
    changes = [(n, o) for n, o in enumerate(own_overrides) if task[n] != o.input_line]
    if not all(_is_value_replacement(o, parsed, composed) and o.key_or_group in value_keys for _, o in changes):
        return False
    try:
        ConfigLoaderImpl._apply_overrides_to_config([o for _, o in changes], composed)
    except Exception:  # the full composition then raises the usual error
        return False
    for number, override in changes:
        task[number] = override.input_line
    return True
