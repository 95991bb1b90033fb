"""Slots: what each trial that runs at a time has for itself, of this machine's processor cores and GPUs."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import ConfigError
from expfw.system import cpu

MAX_SLOTS = 8
log = logging.getLogger("expfw")
_GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Slot:
    """Processor cores, by number, and GPUs, as `CUDA_VISIBLE_DEVICES` names them; None for all that there are."""

    cores: frozenset[int]
    gpus: tuple[str, ...] | None = None

    def restrict_process(self) -> None:
        """Lets this process use nothing else; before any framework looks for devices."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)


def make_slots(count: int | None, gpus: int | None = None, on_gpus: bool = False) -> list[Slot]:
    """So many slots; by default one per core, 8 at most, or as many as there are GPUs for.

    All have as many cores: with other numbers of threads the same trial would come to other bits.

    Args:
        gpus: of each slot; by default 1 where the backend computes `on_gpus` and there are any; 0: all see all.

    Raises:
        ConfigError: there are not so many GPUs.
    """
    available_gpus = _list_gpus()
    gpus_per_slot = gpus if gpus is not None else int(on_gpus and bool(available_gpus))
    if gpus_per_slot * (count or 1) > len(available_gpus):
        raise ConfigError(
            f"{count or 1} slots of {gpus_per_slot} GPUs need {gpus_per_slot * (count or 1)}, but this machine has "
            f"{len(available_gpus)} (CUDA_VISIBLE_DEVICES, where it is set, says which); give fewer with sweep.slots "
            "and sweep.gpus"
        )
    cores = cpu.get_cores()
    if count is not None and count > len(cores):
        log.warning("sweep.slots=%d is more than the %d cores here, which trials then share", count, len(cores))
    count = count or min(MAX_SLOTS, len(available_gpus) // gpus_per_slot if gpus_per_slot else len(cores))
    cores_per_slot = max(1, len(cores) // count)
    return [
        Slot(
            frozenset(cores[(i * cores_per_slot + j) % len(cores)] for j in range(cores_per_slot)),
            tuple(available_gpus[i * gpus_per_slot : (i + 1) * gpus_per_slot]) if gpus_per_slot else None,
        )
        for i in range(count)
    ]


def _list_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(len(list(_GPU_FOLDER.glob("*"))))]
    names = [name.strip() for name in visible.split(",")]
    return [name for name in names if name and name != "-1"]
