"""Request for a sweep: overrides from the command line, composed by Hydra on demand."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from omegaconf import OmegaConf

from expfw.api import option_schema
from expfw.api.run_config import PRESETS, Objective, RunConfig, Sweep
from expfw.config.compose import freeze_composed
from expfw.config.compose_cache import Composer
from expfw.config.error_messages import make_missing_choice_error, one_line_errors
from expfw.config.quoting import quote_overrides
from expfw.config.run_plugins import make_run_plugins
from expfw.errors import ConfigError, ExpfwError
from expfw.plugins.catalogue import Catalogue
from expfw.plugins.kinds import KINDS
from expfw.runs.request import PreparedRun, Request, prepare_run
from expfw.sweeps.search.configuration_source import Source, make_source
from expfw.sweeps.search.space import Interval, Space
from expfw.sweeps.search.space_parser import read_space

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

ComposeFunction: TypeAlias = "Callable[[Sequence[str]], DictConfig]"
_SWEEP_KEYS = ("sweep", "objective", "seed", *PRESETS)
"""Keys of the overrides that apply to the whole sweep; other overrides may fit only some of the configurations."""


@dataclass
class SweepRequest:
    """The overrides of a sweep.

    Attributes:
        parsed_overrides: overrides, parsed by Hydra.
        compose: composes the configuration of one trial from its overrides.
        catalogue: available plugins.
        all_overrides: overrides as typed by the user, including those for Hydra itself.
    """

    parsed_overrides: Sequence[Override]
    compose: ComposeFunction
    catalogue: Catalogue
    all_overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.compose = Composer(self.compose)

    @cached_property
    def overrides(self) -> list[str]:
        """Overrides of the sweep as typed by the user."""
        originals = dict(zip(quote_overrides(self.all_overrides), self.all_overrides, strict=True))
        parsed_texts = [str(override.input_line) for override in self.parsed_overrides]
        return [originals.get(text, text) for text in parsed_texts]

    @cached_property
    def space(self) -> Space:
        """Space of the swept parameters."""
        return read_space(self.parsed_overrides, self.settings.space, self._composed_values["seed"])

    @property
    def swept_keys(self) -> set[str]:
        """Keys of the swept parameters."""
        return {key.lstrip("+") for key in self.space.swept_keys} | ({"seed"} if self.settings.seeds > 1 else set())

    @cached_property
    def _composed_values(self) -> Mapping[str, Any]:
        """Values that the sweep needs before it composes its first configuration."""
        sweep_overrides = [
            o
            for o in self.parsed_overrides
            if o.key_or_group.partition(".")[0] in _SWEEP_KEYS and not o.is_sweep_override()
        ]
        config = self.compose([str(override.input_line) for override in sweep_overrides])
        return {name: OmegaConf.to_container(config[name], resolve=True) for name in ("sweep", "objective")} | {
            "seed": config.seed
        }

    @cached_property
    def settings(self) -> Sweep:
        """`sweep` in the configuration."""
        settings: Sweep = option_schema.build_instance(Sweep, self._composed_values["sweep"], "sweep")
        return settings

    def make_source(self, folder: Path | None) -> Source:
        """Returns the source of the configurations; it writes its study to the folder, or nothing if None."""
        objective: Objective = option_schema.build_instance(Objective, self._composed_values["objective"], "objective")
        return make_source(self.space, self.settings, self._composed_values["seed"], objective.mode, folder)

    def prepare_first_run(self) -> PreparedRun:
        """Prepares the run of the first configuration; if it has an error, the sweep does not start.

        Usually all configurations have the same error; this check finds it without composing the others.

        Raises:
            ExpfwError: if the configuration cannot run or its data is missing.
        """
        self._check_choices()
        source = self.make_source(None)
        try:
            return self._prepare_run(source.propose(0))
        except ExpfwError as error:
            if self.prepare_last_run() is not None:
                error.add_note(
                    "(the first trial has this error, so no trial was started; `expfw sweep --plan ...` shows which "
                    "trials can run)"
                )
            raise

    def _check_choices(self) -> None:
        """Checks that all swept plugins and recipes exist, so that a typing error is found before any trial starts."""
        loader = next((o.config_loader for o in self.parsed_overrides if o.config_loader is not None), None)
        for dimension in self.space.all_dimensions:
            group, values = dimension.plain_key, dimension.values
            if loader is None or group not in (*KINDS, *PRESETS) or isinstance(values, Interval):
                continue
            choices = loader.get_group_options(group)
            names = [name for value in values for name in re.findall(r"[\w-]+", str(value))]
            for name in names if len(values) > 1 else ():
                if name not in choices and not (group in KINDS and self.catalogue.has(group, name)):
                    raise make_missing_choice_error(group, name, self.catalogue)

    def prepare_last_run(self) -> PreparedRun | None:
        """Prepares the run of the last configuration of a grid; None if it cannot run or is not yet known."""
        try:
            return self._prepare_run(self.space.get_overrides(self.space.total - 1))
        except ExpfwError:
            return None

    def _prepare_run(self, overrides: Sequence[str]) -> PreparedRun:
        config = self._compose_config(overrides)
        plugins = make_run_plugins(config, self.catalogue)
        if plugins.backend.several_processes:
            raise ConfigError(
                f"a run with backend={plugins.backend.name} needs several processes, each started with `expfw run`; "
                "expected a backend that needs one process, because each trial of a sweep is one process"
            )
        return prepare_run(config, self.catalogue, plugins)

    def make_trial_request(self, base_config: RunConfig, overrides: Sequence[str], **fields: Any) -> Request:
        """Returns the request for one configuration, with the runs folder and the trackers of the sweep.

        Raises:
            ExpfwError: if the configuration cannot run.
        """
        config = dataclasses.replace(
            self._compose_config(overrides), runs_dir=base_config.runs_dir, tracker=base_config.tracker
        )
        return prepare_run(config, self.catalogue, overrides=tuple(overrides), **fields).request

    def _compose_config(self, overrides: Sequence[str]) -> RunConfig:
        try:
            with one_line_errors(overrides, self.catalogue):
                return freeze_composed(self.compose(overrides), self.catalogue)
        except ConfigError as error:
            raise ConfigError(f"{error}{self._suggest_whole_numbers(str(error))}") from error

    def _suggest_whole_numbers(self, message: str) -> str:
        """Returns the correct interval if the message rejects a number of an interval for a whole-number option."""
        match = re.match(r"(\S+) is \S+; expected (a whole number|int)\b", message)
        for dimension in self.space.all_dimensions if match else ():
            if match and dimension.plain_key == match[1] and isinstance(dimension.values, Interval):
                return f", such as from '{dimension.key}={dimension.values.integer_expression}'"
        return ""
