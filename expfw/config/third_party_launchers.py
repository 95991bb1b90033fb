"""Other Hydra launchers: the sweep options that they do not support, and their configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override

from expfw.api.run_config import Sweep
from expfw.errors import ConfigError

_EQUIVALENT_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "RayLauncher": {
        "slots": "+hydra.launcher.ray.remote.num_cpus=N (CPU cores reserved per trial)",
        "gpus": "+hydra.launcher.ray.remote.num_gpus=N",
        "memory": "+hydra.launcher.ray.remote.memory=BYTES (reserved per trial)",
    },
    "LocalLauncher": {
        "gpus": "hydra.launcher.gpus_per_node=N",
        "timeout": "hydra.launcher.timeout_min=MINUTES",
    },
    "SlurmLauncher": {
        "slots": "hydra.launcher.array_parallelism=N, and hydra.launcher.cpus_per_task=N",
        "gpus": "hydra.launcher.gpus_per_node=N",
        "timeout": "hydra.launcher.timeout_min=MINUTES",
        "memory": "hydra.launcher.mem_gb=N",
    },
}
"""Launcher options that are equivalent to sweep options, by class name of the launcher."""


def check_launcher(name: str, options: Mapping[str, Any], settings: Sweep, overrides: Sequence[str]) -> None:
    """Raises ConfigError if a launcher, selected by `name`, does not support an option of a sweep."""
    choice, launcher_class = f"hydra/launcher={name}", str(options["_target_"]).rpartition(".")[2]
    if launcher_class == "RayAWSLauncher":
        raise ConfigError(
            f"{choice} cannot be used: its machines share no folder with this one; start them with `ray up` and pass "
            "their address to hydra/launcher=ray, see docs/guide/cluster.md"
        )
    for key in ("nodes", "tasks_per_node"):
        if options.get(key, 1) != 1:
            raise ConfigError(
                f"hydra.launcher.{key} is {options[key]}; expected 1, because each task would train the same trial; "
                "for runs with several processes see docs/guide/cluster.md"
            )
    sampler = settings.sampler not in (None, "grid") and f"sweep.sampler={settings.sampler}"
    interval = any("interval(" in text for text in (*overrides, str(settings.space))) and "an interval"
    pruner = settings.pruner and f"sweep.pruner={settings.pruner}"
    if search_setting := sampler or pruner or interval:
        raise ConfigError(
            f"{search_setting} needs the results of earlier trials, but {choice} gets all trials at once; use "
            "hydra/launcher=expfw (on one machine) or list the values"
        )
    if settings.on_failure == "stop":
        raise ConfigError(
            f"sweep.on_failure=stop is not supported by {choice}, which gets all trials at once; expected continue or "
            "retry(n)"
        )
    for key in ("slots", "gpus", "timeout", "memory"):
        if getattr(settings, key) is not None:
            equivalent = _EQUIVALENT_OPTIONS.get(launcher_class, {}).get(key)
            hint = f"use {equivalent} instead" if equivalent else "remove it, because this launcher has no such option"
            raise ConfigError(f"sweep.{key} is not supported by {choice}; {hint}")


def make_launcher_config(hydra_config: DictConfig, folder: Path) -> DictConfig:
    """Returns Hydra's part of a configuration, from which another process can create the launcher.

    Launchers write it to disk. It contains no plugin options and no overrides, because these may be secret. `folder` is
    for the files of the launcher.
    """
    config = copy.deepcopy(hydra_config)
    with flag_override(config, ["struct", "readonly"], [False, False]):
        config.hydra.sweep.dir = str(folder)
        config.hydra.job.chdir = False
        config.hydra.overrides.task, config.hydra.job.override_dirname = [], ""
        OmegaConf.resolve(config.hydra.launcher)
        if config.hydra.launcher["_target_"].endswith(".RayLauncher"):
            # Its default, a memory size, is rejected by `ray.init` if Ray is already running.
            config.hydra.launcher.ray.init.setdefault("object_store_memory", None)
        return OmegaConf.masked_copy(config, ["hydra"])
