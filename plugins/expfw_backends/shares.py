"""Who computes which samples of a batch, when several replicas in several processes do it together."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


class Shares:
    """Cuts each batch into contiguous slices, one for each replica, whose sizes differ by one at most.

    A slice may be empty. Slice r of n samples begins at r * n // replicas.

    Args:
        samples: in the split; batch_size: of all replicas together.
        strategy: a `tf.distribute.Strategy`.
    """

    def __init__(self, samples: int, batch_size: int, strategy: tf.distribute.Strategy) -> None:
        self.samples, self.batch_size = samples, batch_size
        self.steps_per_epoch = -(-samples // batch_size)
        self.replicas = strategy.num_replicas_in_sync
        resolver = strategy.cluster_resolver
        processes = strategy.extended._num_workers if hasattr(strategy.extended, "_num_workers") else 1
        self.local = self.replicas // processes
        self.first = resolver.task_id * self.local if resolver is not None and processes > 1 else 0

    def sizes(self, first: int, count: int) -> np.ndarray:
        """Samples in the whole batches of these steps of an epoch, `(count,)`."""
        starts = (first + np.arange(count)) * self.batch_size
        return np.minimum(self.batch_size, self.samples - starts)

    def size(self, step: Any) -> Any:
        """Samples in the whole batch of one step."""
        left = self.samples - step * self.batch_size
        return min(left, self.batch_size) if isinstance(left, int) else tf.minimum(left, self.batch_size)

    def of_process(self, step: Any) -> tuple[Any, Any]:
        """Where the samples begin and end, in the order of the epoch, that the replicas of this process compute."""
        start, size = step * self.batch_size, self.size(step)
        if self.local == self.replicas:
            return start, start + size
        return start + self._begin(self.first, size), start + self._begin(self.first + self.local, size)

    def of_replica(self, replica: Any, size: Any) -> tuple[Any, Any]:
        """Where they begin and end for one replica, in what the process has of a batch of `size` samples."""
        before = self._begin(self.first, size)
        return self._begin(replica, size) - before, self._begin(replica + 1, size) - before

    def _begin(self, replica: Any, size: Any) -> Any:
        return replica * size // self.replicas
