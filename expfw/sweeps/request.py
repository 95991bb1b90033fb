"""Request for a sweep: overrides from the command line, composed by Hydra on demand."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from expfw.api.run_config import PRESETS, RunConfig
from expfw.config.compose import SweepComposition
from expfw.config.error_messages import make_missing_choice_error
from expfw.config.freeze import build_config
from expfw.config.run_plugins import make_run_plugins
from expfw.config.third_party_launchers import check_launcher
from expfw.errors import ConfigError, ExpfwError
from expfw.plugins.kinds import KINDS
from expfw.redaction import redact_overrides
from expfw.runs.request import PreparedRun, Request, prepare_run
from expfw.sweeps.search.configuration_source import Source, make_source
from expfw.sweeps.search.space import Interval, Space
from expfw.sweeps.search.space_parser import read_space
from expfw.tracking.ledger import Trial

_SWEEP_KEYS = ("sweep", "objective", "seed", "tags", *PRESETS)
"""Keys of the overrides that apply to the whole sweep; other overrides may fit only some of the configurations."""


class SweepRequest:
    """The trials of a sweep: their overrides and configurations.

    Raises:
        ConfigError: if the selected launcher does not support an option.
    """

    def __init__(self, composition: SweepComposition) -> None:
        self.composition, self.catalogue = composition, composition.catalogue
        if composition.launcher is not None:
            launcher_options = composition.hydra_config.hydra.launcher
            check_launcher(composition.launcher, launcher_options, self.options.sweep, composition.overrides)

    @cached_property
    def _shared_config(self) -> DictConfig:
        sweep_overrides = [
            str(override.input_line)
            for override in self.composition.parsed_overrides
            if override.key_or_group.partition(".")[0] in _SWEEP_KEYS and not override.is_sweep_override()
        ]
        return self.composition.compose(sweep_overrides)

    @cached_property
    def options(self) -> RunConfig:
        """Configuration with only the options of the whole sweep: `sweep`, `objective` and `seed`."""
        composed = self._shared_config
        sections = {name: OmegaConf.to_container(composed[name], resolve=True) for name in ("sweep", "objective")}
        return build_config({**sections, "seed": composed.seed})

    @cached_property
    def shared_tags(self) -> list[str]:
        """Names of the tags that all trials have, with the same value."""
        tags = cast("dict[str, Any]", OmegaConf.to_container(self._shared_config.tags, resolve=False))
        return [
            name
            for name, text in tags.items()
            if f"tags.{name}" not in self.swept_keys and "${" not in str(text).replace("${oc.env:", "")
        ]

    @cached_property
    def space(self) -> Space:
        """Space of the swept parameters."""
        return read_space(self.composition.parsed_overrides, self.options.sweep.space, self.options.seed)

    @cached_property
    def swept_keys(self) -> set[str]:
        """Keys of the swept parameters."""
        return {*self.space.swept_keys, *(["seed"] if self.options.sweep.seeds > 1 else [])}

    def make_source(self, folder: Path | None) -> Source:
        """Returns the source of the configurations; it writes its study to the folder, or nothing if None."""
        return make_source(self.space, self.options, folder)

    def prepare_first_run(self) -> PreparedRun:
        """Prepares the run of the first configuration; if it has an error, the sweep does not start.

        Usually all configurations have the same error; this check finds it without composing the others. It also checks
        that all swept plugins and recipes exist.
        """
        for dimension in self.space.all_dimensions:
            group = dimension.plain_key
            if group not in (*KINDS, *PRESETS) or isinstance(dimension.values, Interval) or not dimension.has_choice:
                continue
            choices = self.composition.loader.get_group_options(group)
            for name in [name for value in dimension.values for name in re.findall(r"[\w-]+", str(value))]:
                if name not in choices and not (group in KINDS and self.catalogue.find_entries(group, name)):
                    raise make_missing_choice_error(group, name, self.catalogue)
        source = self.make_source(None)
        try:
            return self._prepare_run(source.propose(0))
        except ExpfwError as error:
            for key in [d.plain_key for d in self.space.all_dimensions if isinstance(d.values, Interval)]:
                if str(error).startswith(f"{key} is ") and "a whole number" in str(error):
                    error.add_note(f"(for whole numbers, write {key}=int(interval(LOW,HIGH)))")
            if self.prepare_last_run() is not None:
                error.add_note(
                    "(the first trial has this error, so no trial was started; `expfw sweep --plan ...` shows which "
                    "trials can run)"
                )
            raise

    def prepare_last_run(self) -> PreparedRun | None:
        """Prepares the run of the last configuration of a grid; None if it cannot run or is not yet known."""
        try:
            return self._prepare_run(self.space.get_overrides(self.space.total - 1))
        except ExpfwError:
            return None

    def _prepare_run(self, overrides: Sequence[str]) -> PreparedRun:
        config = self.composition.compose_trial(overrides)
        plugins = make_run_plugins(config, self.catalogue)
        if plugins.backend.several_processes:
            raise ConfigError(
                f"a run with backend={plugins.backend.name} needs several processes, each started with `expfw run`; "
                "expected a backend that needs one process, because each trial of a sweep is one process"
            )
        return prepare_run(config, self.catalogue, plugins)

    def propose_trial(self, number: int, source: Source, base_config: RunConfig) -> tuple[Trial, list[str]]:
        """Returns a trial before its configuration is composed, without secrets, and all its overrides, with them."""
        configuration, seed_index = divmod(number, base_config.sweep.seeds)
        overrides = list(source.propose(configuration))
        if base_config.sweep.seeds > 1:
            overrides.append(f"seed={base_config.seed + seed_index}")
        swept = self.select_swept_overrides(overrides)
        return Trial(number, "", redact_overrides(overrides), swept, configuration=configuration), overrides

    def select_swept_overrides(self, overrides: Sequence[str]) -> list[str]:
        """Returns the overrides of the swept parameters, with secrets removed."""
        return [o for o in redact_overrides(overrides) if o.lstrip("+~").partition("=")[0] in self.swept_keys]

    def make_trial_request(self, base_config: RunConfig, overrides: Sequence[str], **fields: Any) -> Request:
        """Returns the request for one configuration, with the runs folder and the trackers of the sweep."""
        config = dataclasses.replace(
            self.composition.compose_trial(overrides), runs_dir=base_config.runs_dir, tracker=base_config.tracker
        )
        return prepare_run(config, self.catalogue, overrides=tuple(overrides), **fields).request
