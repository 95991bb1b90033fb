"""The launcher that Hydra knows for trials on this machine; `expfw.supervisor` does the work."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Launcher(HydraLauncher):
    """Stands for trials on this machine, which our sweeper hands to the sweep one by one."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Needs nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Never called by our sweeper; another one would call it."""
        raise NotImplementedError("this launcher runs what expfw's own sweeper finds: leave hydra/sweeper at expfw")
