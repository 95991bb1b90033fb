"""A loop in parts: each part is sent, with its data, to the next free worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from expfw_backends.cluster.rendezvous import Connections
from expfw_backends.engine.loop import Call, Loop

_POLL_SECONDS = 0.02


class CoordinatorLoop(Loop):
    """A loop whose steps run on the workers of a `ClusterCoordinator`, several parts in parallel.

    If one of the connections to the other processes ends, the loop fails.
    """

    def __init__(self, *arguments: Any, coordinator: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.coordinator, self.connections = coordinator, connections

    def compute(self, calls: Iterable[Call]) -> list[np.ndarray]:
        remote_rows = [self.coordinator.schedule(function, args=arguments) for function, arguments in calls]
        while not self.coordinator.done():  # `join` never returns if the last worker is lost
            if lost_tasks := self.connections.find_lost_tasks(_POLL_SECONDS):
                raise tf.errors.UnavailableError(None, None, f"lost {', '.join(lost_tasks)}")
        self.coordinator.join()
        return [rows.fetch() for rows in remote_rows]
