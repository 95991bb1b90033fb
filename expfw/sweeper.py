"""The sweeper that Hydra knows: it hands what is swept over to the sweep, see `expfw.one_sweep`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, flag_override


class Sweeper(HydraSweeper):
    """Composes nothing before it is asked to."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context = hydra_context
        self.loader = hydra_context.config_loader
        self.config = config
        self.task: Any = task_function
        self._make_launcher(config)  # a mistake in its options is found before anything starts

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep."""
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(arguments)
        return self.task.run(parsed, self._compose, self)

    @property
    def launcher(self) -> str:
        """The name of the chosen launcher."""
        return str(self.config.hydra.runtime.choices["hydra/launcher"])

    @property
    def target(self) -> str:
        """Its class."""
        return str(self.config.hydra.launcher._target_)

    @property
    def typed(self) -> list[str]:
        """What the user typed for Hydra itself, its launcher for example."""
        return [str(word) for word in self.config.hydra.overrides.hydra if not word.startswith("hydra.mode=")]

    def launch(self, task: Callable[[DictConfig], Any], folder: Path, count: int) -> Sequence[JobReturn]:
        """Lets the chosen launcher run so many jobs; returns what became of them, when the last has ended.

        Args:
            task: what each job does, knowing its number.
            folder: for what the launcher writes.
        """
        config = copy.deepcopy(self.config)
        with flag_override(config, ["struct", "readonly"], [False, False]):
            config.hydra.sweep.dir = str(folder)
            launcher = self._make_launcher(config)
            own = OmegaConf.masked_copy(
                config, ["hydra"]
            )  # launchers write it down: nothing secret, nothing of plugins
        own.hydra.overrides.task = []
        context = HydraContext(config_loader=_Composed(), callbacks=self.context.callbacks)
        launcher.setup(hydra_context=context, task_function=task, config=own)
        launched: Sequence[JobReturn] = launcher.launch([[] for _ in range(count)], initial_job_idx=0)
        return launched

    def _make_launcher(self, config: DictConfig) -> HydraLauncher:
        made: HydraLauncher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=config
        )
        return made

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        composed: DictConfig = self.loader.load_sweep_config(self.config, list(overrides))
        return composed


class _Composed:
    """Stands for Hydra's loader of configurations where jobs need none: they bring what they do."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of a job, as launchers ask for it."""
        return copy.deepcopy(master_config)
