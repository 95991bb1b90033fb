"""Slots: what each trial that runs at a time has for itself, of this machine's processor cores and GPUs."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import ConfigError
from expfw.system import cpu

MOST_SLOTS = 8
log = logging.getLogger("expfw")
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Slot:
    """Processor cores, by number, and GPUs, as `CUDA_VISIBLE_DEVICES` names them; None for all that there are."""

    cores: frozenset[int]
    gpus: tuple[str, ...] | None = None

    def take(self) -> None:
        """Lets this process use nothing else; before any framework looks for devices."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)


def slots(count: int | None, gpus: int | None = None, on_gpus: bool = False) -> list[Slot]:
    """So many slots; by default one per core, 8 at most, or as many as there are GPUs for.

    All have as many cores: with other numbers of threads the same trial would come to other bits.

    Args:
        gpus: of each slot; by default 1 where the backend computes `on_gpus` and there are any; 0: all see all.

    Raises:
        ConfigError: there are not so many GPUs.
    """
    there = _gpus()
    each = gpus if gpus is not None else int(on_gpus and bool(there))
    if each * (count or 1) > len(there):
        raise ConfigError(
            f"{count or 1} slots of {each} GPUs need {each * (count or 1)}, but this machine has {len(there)} "
            "(CUDA_VISIBLE_DEVICES, where it is set, says which); give fewer with sweep.slots and sweep.gpus"
        )
    cores = cpu.cores()
    if count is not None and count > len(cores):
        log.warning("sweep.slots=%d is more than the %d cores here, which trials then share", count, len(cores))
    count = count or min(MOST_SLOTS, len(there) // each if each else len(cores))
    size = max(1, len(cores) // count)
    return [
        Slot(
            frozenset(cores[(i * size + j) % len(cores)] for j in range(size)),
            tuple(there[i * each : (i + 1) * each]) if each else None,
        )
        for i in range(count)
    ]


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(len(list(_GPUS.glob("*"))))]
    names = [name.strip() for name in visible.split(",")]
    return [name for name in names if name and name != "-1"]
