"""Other Hydra launchers: the packages that provide them, and the sweep options that they do not support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expfw.api.run_config import Sweep
from expfw.errors import ConfigError

OWN_LAUNCHER = "hydra_plugins.expfw.Launcher"
EXTRAS = {"ray": "ray", "ray_aws": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The extra of expfw that installs each launcher."""
_UNSUPPORTED = {
    "RayAWSLauncher": "its machines share no folder with this one; start the machines with `ray up` and pass their "
    "address to hydra/launcher=ray, see docs/guide/cluster.md"
}
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
    """Checks that a launcher, selected by `name`, supports the options of a sweep.

    Raises:
        ConfigError: if the launcher does not support an option.
    """
    choice, launcher_class = f"hydra/launcher={name}", str(options["_target_"]).rpartition(".")[2]
    if launcher_class in _UNSUPPORTED:
        raise ConfigError(f"{choice} cannot be used: {_UNSUPPORTED[launcher_class]}")
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
