"""Composition of a frozen configuration from overrides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.api.run_config import PRESETS, RunConfig
from expfw.config.error_messages import one_line_errors
from expfw.config.freeze import freeze
from expfw.config.hydra_sweeper import ComposeFunction, Sweeper, SweepTask
from expfw.config.plugin_source import make_hydra
from expfw.config.quoting import quote_overrides
from expfw.config.unknown_keys import suggest_key
from expfw.errors import ConfigError, UnknownOptionError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.redaction import find_environment_values

_T = TypeVar("_T")


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
    run: Callable[[Sequence[Override], ComposeFunction, Sweeper], _T],
    config_name: str = "config",
    config_dir: str | None = None,
) -> _T:
    """Lets Hydra parse the overrides of a sweep; our sweeper (`hydra_sweeper.py`) then calls `run`.

    Returns:
        The result of `run`.

    Raises:
        ConfigError: if an override cannot be parsed. The message is one line.
    """
    with one_line_errors(overrides, catalogue):
        hydra = make_hydra(catalogue, config_dir)
        task = SweepTask(run)
        result: _T = hydra.multirun(config_name, task, quote_overrides(overrides), with_log_configuration=False)
        return result


def freeze_composed(composed: DictConfig, catalogue: Catalogue) -> RunConfig:
    """Resolves and freezes a composed config, without Hydra's own node."""
    overrides = [str(override).lstrip("+~") for override in composed.hydra.overrides.task]
    for several in filter(None, (re.fullmatch(r"(\w+)=\[(.*,.*)\]", override) for override in overrides)):
        if several[1] in KINDS and several[1] not in MULTIPLE_KINDS:
            raise ConfigError(
                f"{several[0]} selects several, but a run has one {several[1]}; expected {several[1]}=NAME; to try "
                f"each: expfw sweep {several[1]}={several[2].replace(' ', '')}"
            )
    with flag_override(composed, ["struct", "readonly"], [False, False]):
        own_config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    environment_values = find_environment_values(own_config)
    values = cast("dict[str, Any]", OmegaConf.to_container(own_config, resolve=True, throw_on_missing=False))
    for kind in MULTIPLE_KINDS:
        values[kind] = _drop_unused_options(kind, values.get(kind) or {}, overrides, catalogue)
    try:
        return freeze(values, catalogue, environment_values)
    except UnknownOptionError as error:
        if error.key in PRESETS:
            file = f"{error.key}/{composed.hydra.runtime.choices[error.key]}.yaml"
            raise ConfigError(
                f"{file} is not a valid recipe; expected `# @package _global_` as its first line, then lines such as "
                "`train: {epochs: 3}`"
            ) from error
        problem, available = str(error).split(" Available: ")
        suggestion = "" if "Did you mean" in problem else suggest_key(error.key, values)
        raise ConfigError(f"{problem}{suggestion} Available: {available}") from error


def _drop_unused_options(
    kind: str, node: Mapping[str, Any], overrides: Sequence[str], catalogue: Catalogue
) -> dict[str, Any]:
    """Drops options of a recipe for a plugin that is disabled, or that the user replaced, as with `callback=[]`.

    Options that the user typed stay and are rejected later.

    Raises:
        PluginError: if an override selects a disabled plugin.
    """
    selections = [value for key, _, value in (override.partition("=") for override in overrides) if key == kind]
    for name in re.findall(r"[\w-]+", " ".join(selections)):
        if catalogue.is_disabled(kind, name):
            catalogue.get(kind, name)
    return {
        name: options
        for name, options in node.items()
        if not isinstance(options, dict)
        or "plugin" in options
        or not (catalogue.is_disabled(kind, name) or (selections and catalogue.find_entries(kind, name)))
        or any(override.startswith(f"{kind}.{name}") for override in overrides)
    }
