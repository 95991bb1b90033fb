"""Batches: the order of their samples, their division between replicas, and their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from expfw import ConfigError, Splits

_ALIGNMENT_BYTES = 64  # TensorFlow's vector instructions load this many bytes at a time


def make_permutation(seed: int, epoch: int, sample_count: int) -> np.ndarray:
    """Returns the order of the samples in an epoch, int32 `(samples,)`; a pure function of seed and epoch."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(sample_count).astype(np.int32)


class ReplicaSlice(NamedTuple):
    """The slice of a batch that one replica computes."""

    fraction: Any  # weight in the batch, a number or a scalar tensor; the sum over all replicas is 1
    counts_metrics: bool  # whether metrics include this slice: of several replicas with the same samples, only one


WHOLE_BATCH = ReplicaSlice(1, counts_metrics=True)


class BatchSlicer:
    """Divides each batch into contiguous slices, one per replica, whose sizes differ by one at most.

    In a batch of n samples, slice r begins at r * n // replicas. A batch with fewer samples than replicas is not
    divided: each replica computes the whole batch with the weight 1 / replicas. So no slice is empty, which some
    operations do not support, and a computation over all replicas, for example synchronised batch normalisation, covers
    the whole batch.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.replicas = strategy.num_replicas_in_sync
        self.replicas_per_process, self.first_replica = self.replicas, 0  # of this process
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            # the public resolver does not know how TensorFlow numbers the workers
            self.replicas_per_process //= strategy.extended._num_workers
            self.first_replica = strategy.extended._id_in_cluster * self.replicas_per_process

    def get_process_range(self, size: int) -> tuple[int, int]:
        """Returns begin and end of the samples of this process in a batch of `size` samples."""
        ends = (self.first_replica, self.first_replica + self.replicas_per_process)
        return (0, size) if size < self.replicas else (ends[0] * size // self.replicas, ends[1] * size // self.replicas)

    def get_replica_slice(self, replica: int, size: int) -> tuple[int, int, ReplicaSlice]:
        """Returns begin and end of the samples of a replica, within the samples of this process, and its slice."""
        if size < self.replicas:
            return 0, size, ReplicaSlice(1 / self.replicas, counts_metrics=replica == 0)
        process_begin, _ = self.get_process_range(size)
        begin, end = replica * size // self.replicas, (replica + 1) * size // self.replicas
        return begin - process_begin, end - process_begin, ReplicaSlice((end - begin) / size, counts_metrics=True)


def make_device_tensor(array: np.ndarray) -> tf.Tensor:
    """Returns the array as a tensor on the device; on a CPU without a copy, if its memory layout permits this.

    Copying a memory-mapped file takes as long as some epochs of a small model, and each trial of a sweep would do it.
    The array becomes read-only, because a write to the array would change the tensor.
    """
    is_aligned = array.ctypes.data % _ALIGNMENT_BYTES == 0 and array.flags.c_contiguous
    is_native = array.dtype.kind in "fiu" and array.dtype.isnative
    can_share = is_aligned and is_native and array.flags.writeable and array.size > 0
    if not can_share or tf.config.list_logical_devices("GPU"):
        return tf.constant(array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    array.setflags(write=False)
    return tensor


def apply_class_weights(data: Splits, weights: Mapping[str, float]) -> Splits:
    """Returns the data with sample weights of the training split multiplied by class weights.

    The weights are by class number or class name; other classes have the weight 1.
    """
    if not weights:
        return data
    classes, class_names = data.spec.classes, data.spec.class_names
    if not isinstance(classes, int):
        raise ConfigError("train.class_weight needs a single target with classes; remove train.class_weight")
    class_weights = np.ones(classes, np.float32)
    class_numbers = {str(number): number for number in range(classes)}
    class_numbers |= {name: number for number, name in enumerate(class_names)}
    for name, weight in weights.items():
        if name not in class_numbers:
            known_classes = ", ".join(class_names) or f"0 to {classes - 1}"
            raise ConfigError(f"train.class_weight: unknown class {name!r}. Available: {known_classes}")
        class_weights[class_numbers[name]] = weight
    own_weight = 1.0 if data.train.weight is None else data.train.weight
    weight_column = (class_weights[data.train.y] * own_weight).astype(np.float32)
    return dataclasses.replace(data, train=dataclasses.replace(data.train, weight=weight_column))
