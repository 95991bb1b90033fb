"""Hydra's launchers beside our own: which package brings them, and what of a sweep they cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from expfw.api.run_config import Sweep
from expfw.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OWN_LAUNCHER = "hydra_plugins.expfw.Launcher"
_EXTRAS = {"ray": "ray", "ray_aws": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
_UNSUPPORTED = {
    "RayAWSLauncher": "it takes the program to machines that share no folder with this one; start them with `ray up` "
    "and give their address to hydra/launcher=ray, see docs/guide/cluster.md"
}
_EQUIVALENT_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "RayLauncher": {
        "slots": "+hydra.launcher.ray.remote.num_cpus=N, processor cores that each trial counts for",
        "gpus": "+hydra.launcher.ray.remote.num_gpus=N",
        "memory": "+hydra.launcher.ray.remote.memory=BYTES, which each trial counts for",
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
"""By their classes' names, what says the same to them."""


def explain_missing_launcher(launcher: str) -> str | None:
    """What to do about a launcher that is not there; None where we do not know it."""
    extra = _EXTRAS.get(launcher)
    return (
        f"hydra/launcher={launcher} needs a package that is not there: pip install 'expfw[{extra}]'" if extra else None
    )


def correct_defaults(options: DictConfig) -> None:
    """Puts right what a launcher's own defaults get wrong.

    Hydra's for Ray gives `ray.init` a size of memory, which that refuses where it finds a Ray that runs already.
    """
    if str(options["_target_"]).endswith(".RayLauncher"):
        options["ray"]["init"].setdefault("object_store_memory", None)


def check_launcher(name: str, options: Mapping[str, Any], settings: Sweep, overrides: Sequence[str]) -> None:
    """That a launcher can do what is asked for.

    Args:
        name: that the user chose it by; options: its own, with its class.
        overrides: the overrides of the sweep.

    Raises:
        ConfigError: it cannot.
    """
    choice, launcher_class = f"hydra/launcher={name}", str(options["_target_"]).rpartition(".")[2]
    if launcher_class in _UNSUPPORTED:
        raise ConfigError(f"{choice} cannot be used: {_UNSUPPORTED[launcher_class]}")
    for key in ("nodes", "tasks_per_node"):
        if options.get(key, 1) != 1:
            raise ConfigError(
                f"hydra.launcher.{key}={options[key]}: a trial is one process, and each task would make the same; for "
                "runs of several processes see docs/guide/cluster.md"
            )
    sampler = settings.sampler not in (None, "grid") and f"sweep.sampler={settings.sampler}"
    interval = any("interval(" in text for text in (*overrides, str(settings.space))) and "an interval"
    pruner = settings.pruner and f"sweep.pruner={settings.pruner}"
    if search_setting := sampler or pruner or interval:
        raise ConfigError(
            f"{search_setting} is searched with what earlier trials came to, but {choice} is given all trials at once; "
            "search with hydra/launcher=expfw, on one machine, or give values instead"
        )
    if settings.on_failure == "stop":
        raise ConfigError(
            f"sweep.on_failure=stop: {choice} is given all trials at once, so that none can be held back; use "
            "continue, or retry(n)"
        )
    for key in ("slots", "gpus", "timeout", "memory"):
        if getattr(settings, key) is not None:
            equivalent = _EQUIVALENT_OPTIONS.get(launcher_class, {}).get(key)
            hint = (
                f"what {choice} knows is {equivalent}" if equivalent else f"{choice} has nothing like it, leave it out"
            )
            raise ConfigError(f"sweep.{key} is for trials that expfw itself starts on this machine; {hint}")
