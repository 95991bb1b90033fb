"""Who computes which samples of a batch, when several replicas in several processes do it together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class ReplicaSlice(NamedTuple):
    """What one replica has of a batch.

    Attributes:
        fraction: how much of the whole batch its samples stand for, a number or a scalar tensor; over all replicas, 1.
        copies: how many replicas have these same samples.
        counts_metrics: whether this is the one of them whose metrics count.
    """

    fraction: Any
    copies: int
    counts_metrics: bool


class BatchSlicer:
    """Cuts each batch into contiguous slices, one for each replica, whose sizes differ by one at most.

    Slice r of n samples begins at r * n // replicas. A batch with fewer samples than replicas is not cut: each replica
    computes the whole of it and stands for its part of it. So no slice is empty, which some operations cannot take, and
    whatever is computed over all replicas, in synchronised batch normalisation say, is that of the whole batch.

    Args:
        samples: in the split; batch_size: of all replicas together.
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
        """Samples in the whole batches of these steps of an epoch, `(count,)`."""
        starts = (first + np.arange(count)) * self.batch_size
        return np.minimum(self.batch_size, self.samples - starts)

    def get_process_range(self, size: int) -> tuple[int, int]:
        """Where the samples begin and end that this process computes of a batch of `size`."""
        return self._get_range(self.first_replica, self.first_replica + self.replicas_per_process, size)

    def get_replica_slice(self, replica: int, size: int) -> tuple[int, int, ReplicaSlice]:
        """Where they begin and end for one replica, in what the process has of a batch of `size` samples."""
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
    """The batch size, up to `batch_size`, to evaluate splits of so many samples with; None where each leaves a rest.

    A last batch of another size is a function of its own, which costs as much as a hundred steps of a small network.
    """
    common_divisor = math.gcd(*sample_counts)
    return next((size for size in range(batch_size, batch_size // 2, -1) if common_divisor % size == 0), None)
