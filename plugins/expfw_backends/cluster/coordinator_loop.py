"""A loop in parts: each part is sent, with its data, to the next free worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.cluster.rendezvous import Connections
from expfw_backends.engine.loop import Loop, StepValues

_POLL_SECONDS = 0.02


class CoordinatorLoop(Loop):
    """A loop whose steps run on the workers of a `ClusterCoordinator`, several parts in parallel.

    If one of the connections to the other processes ends, the loop fails.
    """

    def __init__(self, *arguments: Any, coordinator: Any, connections: Connections, steps_at_once: int) -> None:
        super().__init__(*arguments)
        self.coordinator, self.connections, self.steps_at_once = coordinator, connections, steps_at_once

    def run(self, split: Split, order: np.ndarray, first: int, count: int) -> StepValues:
        remote_values = []
        for begin, steps, size in self.split_steps(len(split), first, count, self.steps_at_once):
            samples, positions = self.read_part(split, order, begin, steps, size)
            arguments = (samples, positions, np.int32(0), np.int32(steps))
            remote_values.append(self.coordinator.schedule(self._get_compiled_loop(samples, size), args=arguments))
        while not self.coordinator.done():  # `join` never returns if the last worker is lost
            if lost_tasks := self.connections.find_lost_tasks(_POLL_SECONDS):
                raise tf.errors.UnavailableError(None, None, f"lost {', '.join(lost_tasks)}")
        self.coordinator.join()
        return self._make_values(np.concatenate([value.fetch() for value in remote_values]), len(split), first)
