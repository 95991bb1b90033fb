"""Composition of a frozen configuration from overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from hydra._internal.callbacks import Callbacks
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.api.run_config import PRESETS, RunConfig
from expfw.config.compose_cache import Composer
from expfw.config.error_messages import INVALID_RECIPE, one_line_errors, suggest_key
from expfw.config.freeze import freeze
from expfw.config.plugin_source import OWN_LAUNCHER, make_hydra
from expfw.config.quoting import quote_overrides
from expfw.errors import ConfigError, UnknownOptionError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.redaction import find_environment_values


@dataclass(frozen=True)
class Composition:
    """Overrides, and the sources of the configuration to which they apply.

    Attributes:
        overrides: overrides as on the command line, `["model=mlp_keras", "train.epochs=3"]`.
        catalogue: available plugins; by default the installed ones.
        config_name: name of the root configuration.
        config_dir: folder of configurations that is searched first.
        defaults: values of options that would be null, by dotted key, for a recorded sweep.
    """

    overrides: Sequence[str]
    catalogue: Catalogue = field(default_factory=get_catalogue)
    config_name: str = "config"
    config_dir: str | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)

    def compose(self) -> RunConfig:
        """Composes a frozen configuration; raises the errors of `freeze`. Their messages are one line."""
        with one_line_errors(self.overrides, self.catalogue):
            hydra = make_hydra(self.catalogue, self.config_dir)
            composed = hydra.compose_config(self.config_name, quote_overrides(self.overrides), RunMode.RUN)
            return freeze_composed(composed, self.catalogue)

    @contextmanager
    def open_sweep(self) -> Iterator[SweepComposition]:
        """Lets Hydra parse the overrides of a sweep; errors of Hydra inside the context have a one-line message."""
        with one_line_errors(self.overrides, self.catalogue):
            yield SweepComposition(self)


class SweepComposition:
    """A sweep as Hydra parses it.

    Attributes:
        overrides: overrides of the sweep as typed by the user.
        parsed_overrides: the same, parsed by Hydra.
        hydra_overrides: overrides for Hydra itself, for example for its launcher.
        hydra_config: configuration that contains Hydra's own options.
        launcher: name of the selected launcher; None for our own, which runs trials on this machine.
        loader: Hydra's loader of configurations.
        compose: composes the configuration of one trial from its overrides.
    """

    def __init__(self, composition: Composition) -> None:
        self.catalogue, quoted_overrides = composition.catalogue, quote_overrides(composition.overrides)
        self._defaults = composition.defaults
        hydra = make_hydra(self.catalogue, composition.config_dir)
        self.loader = hydra.config_loader
        self.hydra_config = config = hydra.compose_config(composition.config_name, quoted_overrides, RunMode.MULTIRUN)
        texts = cast("dict[str, list[str]]", OmegaConf.to_container(config.hydra.overrides))
        self.hydra_overrides = [text for text in texts["hydra"] if not text.startswith("hydra.mode=")]
        self.parsed_overrides = OverridesParser.create(self.loader).parse_overrides(texts["task"])
        originals = dict(zip(quoted_overrides, composition.overrides, strict=True))
        self.overrides = [originals.get(text, text) for text in texts["task"]]
        self.compose = Composer(lambda overrides: self.loader.load_sweep_config(config, list(overrides)))
        choices = config.hydra.runtime.choices
        is_own_launcher = config.hydra.launcher["_target_"] == OWN_LAUNCHER
        self.launcher = None if is_own_launcher else str(choices["hydra/launcher"])
        if (sweeper := choices.get("hydra/sweeper")) != "expfw":
            raise ConfigError(
                f"hydra/sweeper={sweeper} is not supported; expected hydra/sweeper=expfw and options such as "
                "sweep.sampler=tpe"
            )
        own_groups = ["sweeper", "launcher"] if is_own_launcher else ["sweeper"]
        for group in own_groups:
            if unknown := [name for name in config.hydra[group] if name != "_target_"]:
                raise ConfigError(
                    f"unknown option 'hydra.{group}.{unknown[0]}'; expected options such as sweep.slots=2"
                )
        if self.launcher is not None:
            context = HydraContext(self.loader, Callbacks())
            Plugins.instance().instantiate_launcher(context, lambda config: None, config)  # finds invalid options

    def compose_trial(self, overrides: Sequence[str]) -> RunConfig:
        """Composes the frozen configuration of one trial; see `Composition.compose`."""
        with one_line_errors(overrides, self.catalogue):
            return freeze_composed(self.compose(overrides), self.catalogue, self._defaults)


def compose(overrides: Sequence[str], catalogue: Catalogue | None = None) -> RunConfig:
    """Composes a frozen configuration; see `Composition.compose`."""
    return Composition(overrides, catalogue or get_catalogue()).compose()


def freeze_composed(composed: DictConfig, catalogue: Catalogue, defaults: Mapping[str, str] | None = None) -> RunConfig:
    """Resolves and freezes a composed config, without Hydra's own node; `defaults` as in `Composition`."""
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
    for key, default in (defaults or {}).items():
        section, _, name = key.partition(".")
        if values[section][name] is None:
            values[section][name] = default
    for kind in MULTIPLE_KINDS:
        values[kind] = _drop_unused_options(kind, values.get(kind) or {}, overrides, catalogue)
    try:
        return freeze(values, catalogue, environment_values)
    except UnknownOptionError as error:
        if error.key in PRESETS:
            file = f"{error.key}/{composed.hydra.runtime.choices[error.key]}"
            raise ConfigError(INVALID_RECIPE.format(file)) from error
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
