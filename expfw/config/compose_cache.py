"""Composition of a sweep's configurations; those that differ only in plain values are composed once."""

from __future__ import annotations

import copy
from collections import deque
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
    """Returns the same as `compose`, faster: Hydra needs 0.06 s per configuration, even if only `seed=3` differs.

    An override is applied to a copy of an earlier configuration if it only replaces a plain value, if no group has its
    key, and if no other override changes a part of the same value. Hydra applies such overrides last, too.
    """

    def __init__(self, compose: Callable[[Sequence[str]], DictConfig]) -> None:
        self._compose = compose
        self._earlier: deque[tuple[Sequence[Override], DictConfig]] = deque(maxlen=_MAX_CONFIGS)

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """Returns the configuration of a trial; raises the same errors as `compose`."""
        overrides = quote_overrides(overrides)
        parsed = OverridesParser.create().parse_overrides(overrides)
        for earlier_overrides, earlier_config in self._earlier:
            config = _derive(earlier_config, earlier_overrides, parsed)
            if config is not None:
                return config
        composed = self._compose(overrides)
        config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        with open_dict(config):  # Hydra's own node is larger than the rest
            choices, task_overrides = composed.hydra.runtime.choices, composed.hydra.overrides
            config.hydra = {"overrides": task_overrides, "runtime": {"choices": choices}}
        self._earlier.append((parsed, config))
        return config


def _derive(
    composed: DictConfig, earlier_overrides: Sequence[Override], overrides: Sequence[Override]
) -> DictConfig | None:
    """Returns a configuration that differs from a composed one only in plain values; None if others differ, too."""
    if [o.get_key_element() for o in earlier_overrides] != [o.get_key_element() for o in overrides]:
        return None
    changes = [new for old, new in zip(earlier_overrides, overrides, strict=True) if old.input_line != new.input_line]
    if not all(_replaces_plain_value(override, overrides, composed) for override in changes):
        return None
    config = copy.deepcopy(composed)
    try:
        ConfigLoaderImpl._apply_overrides_to_config(changes, config)  # Hydra has no public function for this
    except Exception:  # the full composition then raises the usual error
        return None
    config.hydra.overrides.task = [str(o.input_line) for o in overrides if not o.is_hydra_override()]
    return config


def _replaces_plain_value(override: Override, overrides: Sequence[Override], composed: DictConfig) -> bool:
    """Whether the override, one of `overrides`, only replaces one plain value in the configuration."""
    key = override.key_or_group
    groups = {str(choice).partition("@")[0] for choice in composed.hydra.runtime.choices}
    # `_value` and `_get_node`: the public functions convert sweeps and resolve interpolations
    is_plain = override.type == OverrideType.CHANGE and isinstance(override._value, _PLAIN_TYPES)
    if not is_plain or override.package is not None or key in groups or override.is_hydra_override():
        return False
    # Hydra applies group choices before all values, and they are equal in both configurations.
    value_keys = [other.key_or_group for other in overrides if other.key_or_group not in groups]
    if sum(f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in value_keys) > 1:
        return False
    parent_key, _, name = key.rpartition(".")
    parent: Any = OmegaConf.select(composed, parent_key) if parent_key else composed
    return OmegaConf.is_dict(parent) and name in parent and not isinstance(parent._get_node(name), Container)
