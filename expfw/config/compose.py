"""Composition of a frozen configuration from overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.api.run_config import RunConfig
from expfw.config.error_messages import one_line_errors
from expfw.config.freeze import freeze
from expfw.config.plugin_source import make_hydra
from expfw.config.quoting import quote_overrides
from expfw.config.unknown_keys import TARGET_HINT
from expfw.errors import ConfigError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.redaction import find_environment_values


def compose(
    overrides: Sequence[str],
    catalogue: Catalogue | None = None,
    config_name: str = "config",
    config_dir: str | None = None,
) -> RunConfig:
    """Composes a frozen configuration from overrides.

    Args:
        overrides: overrides as on the command line, `["model=mlp_keras", "train.epochs=3"]`.
        catalogue: available plugins; by default the installed ones.
        config_name: name of the root configuration.
        config_dir: folder of configurations that is searched first.

    Raises:
        ConfigError: if the configuration is invalid; see `freeze`. The message is one line.
        PluginError: if a plugin is missing or broken; see `freeze`. The message is one line.
    """
    catalogue = catalogue or get_catalogue()
    with one_line_errors(overrides, catalogue):
        hydra = make_hydra(catalogue, config_dir)
        return freeze_composed(hydra.compose_config(config_name, quote_overrides(overrides), RunMode.RUN), catalogue)


def compose_sweep(
    overrides: Sequence[str],
    catalogue: Catalogue,
    task: Any,
    config_name: str = "config",
    config_dir: str | None = None,
) -> None:
    """Lets Hydra parse the overrides of a sweep; our sweeper (`hydra_sweeper.py`) then calls `task.run`.

    Raises:
        ConfigError: if an override cannot be parsed. The message is one line.
    """
    with one_line_errors(overrides, catalogue):
        hydra = make_hydra(catalogue, config_dir)
        hydra.multirun(config_name, task, quote_overrides(overrides), with_log_configuration=False)


def freeze_composed(composed: DictConfig, catalogue: Catalogue) -> RunConfig:
    """Resolves and freezes a composed config, without Hydra's own node."""
    with flag_override(composed, ["struct", "readonly"], [False, False]):
        own_config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    _reject_variants_without_plugin(own_config, composed.hydra.runtime.choices, catalogue)
    environment_values = find_environment_values(own_config)
    values = OmegaConf.to_container(own_config, resolve=True, throw_on_missing=False)
    assert isinstance(values, dict)
    overrides = [str(override).lstrip("+~") for override in composed.hydra.overrides.task]
    used_values = {
        str(key): _drop_unused_options(str(key), value, overrides, catalogue) for key, value in values.items()
    }
    return freeze(used_values, catalogue, environment_values)


def _reject_variants_without_plugin(config: DictConfig, choices: Mapping[str, str], catalogue: Catalogue) -> None:
    """Rejects a file such as conf/model/wide.yaml, a variant of a plugin, if it does not name the plugin.

    Raises:
        ConfigError: if a variant names no plugin.
    """
    for kind in set(KINDS) - set(MULTIPLE_KINDS):
        node, choice = OmegaConf.select(config, kind), choices.get(kind)
        if choice in (None, "null") or not isinstance(node, DictConfig) or "plugin" in node:
            continue
        target_hint = f" {TARGET_HINT};" if "_target_" in node else ""
        names = catalogue.list_names(kind)
        example = "mlp_keras" if "mlp_keras" in names else names[0] if names else "NAME"
        raise ConfigError(
            f"{kind}={choice}: {kind}/{choice}.yaml names no plugin;{target_hint} expected a line such as "
            f"`defaults: [{example}]` at its top. Available: {', '.join(names)}"
        )


def _drop_unused_options(kind: str, node: Any, overrides: Sequence[str], catalogue: Catalogue) -> Any:
    """Drops options of a recipe for a plugin that is disabled, or that the user replaced, as with `callback=[]`.

    Options that the user typed stay and are rejected later.
    """
    if kind not in MULTIPLE_KINDS or not isinstance(node, dict):
        return node
    is_replaced = any(override.startswith(f"{kind}=") for override in overrides)
    _reject_disabled_plugins(kind, overrides, catalogue)
    return {
        name: options
        for name, options in node.items()
        if not isinstance(options, dict)
        or "plugin" in options
        or not (catalogue.is_disabled(kind, name) or (is_replaced and catalogue.has(kind, name)))
        or any(override.startswith(f"{kind}.{name}") for override in overrides)
    }


def _reject_disabled_plugins(kind: str, overrides: Sequence[str], catalogue: Catalogue) -> None:
    """Rejects a disabled plugin that an override selects; if only a file selects it, it is dropped without an error."""
    for override in overrides:
        key, _, value = override.partition("=")
        for name in re.findall(r"[\w-]+", value) if key == kind else ():
            if catalogue.is_disabled(kind, name):
                catalogue.get(kind, name)
