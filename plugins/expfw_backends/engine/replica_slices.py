"""Division of a batch between several replicas in several processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class ReplicaSlice(NamedTuple):
    """The slice of a batch that one replica computes.

    Attributes:
        fraction: weight of the slice in the batch, a number or a scalar tensor; the sum over all replicas is 1.
        copies: number of replicas with the same samples.
        counts_metrics: whether metrics include this slice; true for one of the copies.
    """

    fraction: Any
    copies: int
    counts_metrics: bool


class BatchSlicer:
    """Divides each batch into contiguous slices, one per replica, whose sizes differ by one at most.

    In a batch of n samples, slice r begins at r * n // replicas. A batch with fewer samples than replicas is not
    divided: each replica computes the whole batch with the weight 1 / replicas. So no slice is empty, which some
    operations do not support, and a computation over all replicas, for example synchronised batch normalisation, covers
    the whole batch.

    Args:
        samples: samples in the split.
        batch_size: samples per batch, over all replicas.
        strategy: a `tf.distribute.Strategy`.
    """

    def __init__(self, samples: int, batch_size: int, strategy: tf.distribute.Strategy) -> None:
        self.samples, self.batch_size = samples, batch_size
        self.steps_per_epoch = -(-samples // batch_size)
        self.replicas = strategy.num_replicas_in_sync
        self.replicas_per_process, self.first_replica = self.replicas, 0  # of this process
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.replicas_per_process //= strategy.extended._num_workers
            self.first_replica = strategy.extended._id_in_cluster * self.replicas_per_process

    def get_batch_sizes(self, first: int, count: int) -> np.ndarray:
        """Returns the batch sizes of these steps of an epoch, over all replicas, `(count,)`."""
        starts = (first + np.arange(count)) * self.batch_size
        return np.minimum(self.batch_size, self.samples - starts)

    def get_process_range(self, size: int) -> tuple[int, int]:
        """Returns begin and end of the samples of this process in a batch of `size` samples."""
        return self._get_range(self.first_replica, self.first_replica + self.replicas_per_process, size)

    def get_replica_slice(self, replica: int, size: int) -> tuple[int, int, ReplicaSlice]:
        """Returns begin and end of the samples of a replica, within the samples of this process, and its slice."""
        process_begin, _ = self.get_process_range(size)
        begin, end = self._get_range(replica, replica + 1, size)
        if size < self.replicas:
            replica_slice = ReplicaSlice(1 / self.replicas, self.replicas, counts_metrics=replica == 0)
        else:
            replica_slice = ReplicaSlice((end - begin) / size, 1, counts_metrics=True)
        return begin - process_begin, end - process_begin, replica_slice

    def _get_range(self, first: int, last: int, size: int) -> tuple[int, int]:
        if size < self.replicas:
            return 0, size
        return first * size // self.replicas, last * size // self.replicas


def find_even_batch_size(sample_counts: Sequence[int], batch_size: int) -> int | None:
    """Returns the largest batch size in (`batch_size` // 2, `batch_size`] that divides all sample counts; or None.

    A last batch of another size needs another traced function. Tracing takes as long as a hundred steps of a small
    network.
    """
    common_divisor = math.gcd(*sample_counts)
    return next((size for size in range(batch_size, batch_size // 2, -1) if common_divisor % size == 0), None)
