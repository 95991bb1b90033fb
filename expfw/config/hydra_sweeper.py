"""Launcher and sweeper for Hydra; both delegate to `expfw.sweeps`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.api.run_config import Sweep
from expfw.config import third_party_launchers
from expfw.errors import ConfigError

ComposeFunction: TypeAlias = Callable[[Sequence[str]], DictConfig]
"""Composes the configuration of one trial from its overrides."""


@dataclass
class SweepTask:
    """Task function for Hydra: our sweeper calls `run` once; other sweepers call the task itself for each trial."""

    run: Callable[[Sequence[Override], ComposeFunction, Sweeper], Any]

    def __call__(self, config: DictConfig) -> Any:
        raise ConfigError("this launcher cannot run expfw trials; use hydra/launcher=expfw")


class Sweeper(HydraSweeper):
    """Hydra sweeper that composes configurations only on request.

    Attributes:
        launcher: name of the selected launcher; None for our own, which runs trials on this machine.
        hydra_overrides: overrides for Hydra itself, for example for its launcher.
    """

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        self.task: Any = task_function
        is_own = config.hydra.launcher["_target_"] == third_party_launchers.OWN_LAUNCHER
        self.launcher = None if is_own else str(config.hydra.runtime.choices["hydra/launcher"])
        self.hydra_overrides = [str(o) for o in config.hydra.overrides.hydra if not o.startswith("hydra.mode=")]
        Plugins.instance().instantiate_launcher(  # finds invalid launcher options before the sweep starts
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep and returns its result."""
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(arguments)
        return self.task.run(
            parsed, lambda overrides: self.loader.load_sweep_config(self.config, list(overrides)), self
        )

    def check_launcher(self, settings: Sweep, overrides: Sequence[str]) -> None:
        """Raises ConfigError if another launcher does not support an option of the sweep."""
        if self.launcher is not None:
            third_party_launchers.check_launcher(self.launcher, self.config.hydra.launcher, settings, overrides)

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
            if config.hydra.launcher["_target_"].endswith(".RayLauncher"):
                # Its default, a memory size, is rejected by `ray.init` if Ray is already running.
                config.hydra.launcher.ray.init.setdefault("object_store_memory", None)
            return OmegaConf.masked_copy(config, ["hydra"])


class Launcher(HydraLauncher):
    """Placeholder for trials on this machine; our sweeper passes them to the sweep one by one."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Does nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Raises an error, because only other sweepers call it."""
        raise NotImplementedError("hydra/launcher=expfw needs expfw's sweeper; set hydra/sweeper=expfw")
