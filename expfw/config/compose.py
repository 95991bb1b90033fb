"""Composing: from overrides to a frozen configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.api.settings import RunConfig
from expfw.config.error_messages import one_line_errors
from expfw.config.freeze import freeze
from expfw.config.hydra_source import hydra
from expfw.config.quoting import readable
from expfw.config.unknown_keys import TARGET_IS_NOT_USED
from expfw.errors import ConfigError
from expfw.plugins.catalogue import Catalogue, catalogue
from expfw.plugins.kinds import KINDS, SEVERAL
from expfw.redaction import from_environment


def compose(
    overrides: Sequence[str], files: Sequence[str] = (), config_name: str = "config", config_dir: str | None = None
) -> RunConfig:
    """The frozen configuration that these overrides make.

    Args:
        overrides: as on the command line, `["model=mlp_keras", "train.epochs=3"]`.
        files: plain Python files with plugins.

    Raises:
        ConfigError, PluginError: see `freeze`; in one line.
    """
    with one_line_errors(overrides, files):
        composed = hydra(files, config_dir).compose_config(config_name, readable(overrides), RunMode.RUN)
        return frozen(composed, catalogue(tuple(files)))


def frozen(composed: DictConfig, plugins: Catalogue) -> RunConfig:
    """A composed config, resolved and frozen, without Hydra's own node."""
    with flag_override(composed, ["struct", "readonly"], [False, False]):
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    _refuse_files_without_plugin(own, composed.hydra.runtime.choices, plugins)
    taken = from_environment(own)
    values = OmegaConf.to_container(own, resolve=True, throw_on_missing=False)
    assert isinstance(values, dict)
    typed = [str(override).lstrip("+~") for override in composed.hydra.overrides.task]
    used = {str(key): _without_idle(str(key), value, typed, plugins) for key, value in values.items()}
    return freeze(used, plugins, taken)


def _refuse_files_without_plugin(own: DictConfig, choices: Mapping[str, str], plugins: Catalogue) -> None:
    """A file such as conf/model/wide.yaml is a variant of a plugin, and says of which.

    Raises:
        ConfigError: one does not.
    """
    for kind in set(KINDS) - set(SEVERAL):
        node, choice = OmegaConf.select(own, kind), choices.get(kind)
        if choice in (None, "null") or not isinstance(node, DictConfig) or "plugin" in node:
            continue
        target = f" {TARGET_IS_NOT_USED};" if "_target_" in node else ""
        names = plugins.names(kind)
        example = "mlp_keras" if "mlp_keras" in names else names[0] if names else "NAME"
        raise ConfigError(
            f"{kind}={choice}: {kind}/{choice}.yaml names no plugin;{target} expected at its top "
            f"`defaults: [{example}]`, or another of: {', '.join(names)}"
        )


def _without_idle(kind: str, node: Any, typed: Sequence[str], plugins: Catalogue) -> Any:
    """Without the options that a recipe has for a plugin which the user then replaced, as with `callback=[]`.

    So with one that is switched off. Options that the user typed stay, and are refused.
    """
    if kind not in SEVERAL or not isinstance(node, dict):
        return node
    replaced = any(override.startswith(f"{kind}=") for override in typed)
    _refuse_what_is_off(kind, typed, plugins)
    return {
        name: options
        for name, options in node.items()
        if not isinstance(options, dict)
        or "plugin" in options
        or not (plugins.off(kind, name) or (replaced and plugins.has(kind, name)))
        or any(override.startswith(f"{kind}.{name}") for override in typed)
    }


def _refuse_what_is_off(kind: str, typed: Sequence[str], plugins: Catalogue) -> None:
    """What a configuration has is left out where it is switched off; what the user asks for here and now is not."""
    for override in typed:
        key, _, value = override.partition("=")
        for name in re.findall(r"[\w-]+", value) if key == kind else ():
            if plugins.off(kind, name):
                plugins.get(kind, name)
