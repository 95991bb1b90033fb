"""Composing: from overrides to a frozen configuration."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.config import freeze
from expfw.explain import one_line_errors
from expfw.hydra_setup import hydra
from expfw.plugins import Catalogue, catalogue
from expfw.settings import RunConfig


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
        composed = hydra(files, config_dir).compose_config(config_name, list(overrides), RunMode.RUN)
        return frozen(composed, catalogue(tuple(files)))


def frozen(composed: DictConfig, plugins: Catalogue) -> RunConfig:
    """A composed config, resolved and frozen, without Hydra's own node."""
    with flag_override(composed, ["struct", "readonly"], [False, False]):
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    values = OmegaConf.to_container(own, resolve=True, throw_on_missing=False)
    assert isinstance(values, dict)
    return freeze({str(key): value for key, value in values.items()}, plugins)
