"""Launcher and sweeper for Hydra; both delegate to `expfw.sweeps`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.config import third_party_launchers


class Sweeper(HydraSweeper):
    """Hydra sweeper that composes configurations only on request."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader = hydra_context.config_loader
        self.config = config
        self.task: Any = task_function
        Plugins.instance().instantiate_launcher(  # finds invalid launcher options before the sweep starts
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep."""
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(arguments)
        return self.task.run(parsed, self._compose, self)

    @property
    def launcher_name(self) -> str:
        """Name of the selected launcher."""
        return str(self.config.hydra.runtime.choices["hydra/launcher"])

    @property
    def has_other_launcher(self) -> bool:
        """Whether the selected launcher is not our own, which runs trials on this machine."""
        return bool(self.launcher_options["_target_"] != third_party_launchers.OWN_LAUNCHER)

    @property
    def launcher_options(self) -> Mapping[str, Any]:
        """Options of the launcher; `_target_` is its class."""
        return dict(self.config.hydra.launcher)

    @property
    def hydra_overrides(self) -> list[str]:
        """Overrides for Hydra itself, for example for its launcher."""
        return [
            str(override) for override in self.config.hydra.overrides.hydra if not override.startswith("hydra.mode=")
        ]

    def make_launcher_config(self, folder: Path) -> DictConfig:
        """Returns Hydra's part of the configuration, from which another process can create the launcher.

        Launchers write it to disk. It contains no plugin options and no overrides, because these may be secret.

        Args:
            folder: folder for the files of the launcher.
        """
        config = copy.deepcopy(self.config)
        with flag_override(config, ["struct", "readonly"], [False, False]):
            config.hydra.sweep.dir = str(folder)
            config.hydra.job.chdir = False
            config.hydra.overrides.task, config.hydra.job.override_dirname = [], ""
            OmegaConf.resolve(config.hydra.launcher)
            third_party_launchers.correct_defaults(config.hydra.launcher)
            return OmegaConf.masked_copy(config, ["hydra"])

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        composed: DictConfig = self.loader.load_sweep_config(self.config, list(overrides))
        return composed


class Launcher(HydraLauncher):
    """Placeholder for trials on this machine; our sweeper passes them to the sweep one by one."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Does nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Raises an error, because only other sweepers call it."""
        raise NotImplementedError("hydra/launcher=expfw needs expfw's sweeper; set hydra/sweeper=expfw")
