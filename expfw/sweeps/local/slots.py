"""Slots: CPU cores and GPUs of this machine, one slot for each trial that runs at a time."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from expfw.errors import ConfigError
from expfw.system import cpu
from expfw.system.formatting import pluralize

MAX_SLOTS = 8
log = logging.getLogger("expfw")
_GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Slot:
    """CPU cores for one trial, and its GPUs as in `CUDA_VISIBLE_DEVICES`; None for all available GPUs."""

    cores: frozenset[int]
    gpus: tuple[str, ...] | None = None


def make_slots(count: int | None, gpus: int | None = None, on_gpus: bool = False) -> list[Slot]:
    """Returns the slots of this machine.

    All slots have the same number of cores, because results depend on the number of threads.

    Args:
        count: number of slots; by default one per CPU core or per set of GPUs, at most 8.
        gpus: number of GPUs per slot; by default 1 if `on_gpus` and a GPU is available. With 0, every slot can use all
            GPUs.
        on_gpus: whether the backend computes on GPUs.

    Raises:
        ConfigError: if the machine has too few GPUs.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        available_gpus = [str(number) for number in range(len(list(_GPU_FOLDER.glob("*"))))]
    else:
        available_gpus = [name for name in map(str.strip, visible.split(",")) if name and name != "-1"]
    gpus_per_slot = gpus if gpus is not None else int(on_gpus and bool(available_gpus))
    if gpus_per_slot * (count or 1) > len(available_gpus):
        raise ConfigError(
            f"found {pluralize(len(available_gpus), 'GPU')} (CUDA_VISIBLE_DEVICES limits them, if set); expected "
            f"{gpus_per_slot * (count or 1)} for {pluralize(count or 1, 'slot')} with "
            f"{pluralize(gpus_per_slot, 'GPU')} each; reduce sweep.slots or sweep.gpus"
        )
    cores = cpu.get_cores()
    if count is not None and count > len(cores):
        log.warning("sweep.slots=%d is more than the %d available CPU cores; trials share cores", count, len(cores))
    count = count or min(MAX_SLOTS, len(available_gpus) // gpus_per_slot if gpus_per_slot else len(cores))
    cores_per_slot = max(1, len(cores) // count)
    return [
        Slot(
            frozenset(cores[(i * cores_per_slot + j) % len(cores)] for j in range(cores_per_slot)),
            tuple(available_gpus[i * gpus_per_slot : (i + 1) * gpus_per_slot]) if gpus_per_slot else None,
        )
        for i in range(count)
    ]
