"""Sources of batches: data on the device, or data streamed from disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from expfw import ConfigError, Split, Splits
from expfw_backends.engine.replica_slices import BatchSlicer

_ALIGNMENT_BYTES = 64  # bytes; TensorFlow's vector instructions load this many at a time


class StepRange(NamedTuple):
    """Consecutive steps of an epoch, as the compiled loop sees them.

    Attributes:
        order: permutation of the samples in the epoch, int32.
        first: number of the first step in the epoch, int32 scalar.
        last: number of the last step in the epoch, int32 scalar.
        size: samples in each batch.
    """

    order: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor
    size: int


class BatchSource(Protocol):
    """A source of batches within the compiled loop.

    Attributes:
        signature: signature of the compiled loop, `(feed, order, first, count)`; None if it depends on the split size.
    """

    signature: Any

    def make_feed(self, order: np.ndarray, first: int, count: int) -> Any:
        """Returns the input of the compiled loop for these steps; called before each call of the loop."""

    def make_initial_carry(self, feed: Any, steps: StepRange) -> Any:
        """Returns the initial carry, a value passed from step to step; called in the loop, before the first step."""

    def get_batch(self, feed: Any, steps: StepRange, step: tf.Tensor, carry: Any) -> tuple[Any, Any]:
        """Returns the batch of `step`, a tuple like `Split.parts`, and the next carry; called in the loop."""


class ResidentSource:
    """A split on the device; gathers the next batch while a step computes.

    Args:
        split: data of the batches.
        slicer: selects the samples of this process in each batch.
    """

    def __init__(self, split: Split, slicer: BatchSlicer) -> None:
        self.slicer = slicer
        self.data = tf.nest.map_structure(make_device_tensor, split.parts)
        feed_spec = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), self.data)
        scalar_spec = tf.TensorSpec((), tf.int32)
        self.signature = (feed_spec, tf.TensorSpec((None,), tf.int32), scalar_spec, scalar_spec)

    def make_feed(self, order: np.ndarray, first: int, count: int) -> Any:
        return self.data

    def make_initial_carry(self, feed: Any, steps: StepRange) -> Any:
        return self._gather_batch(feed, steps, steps.first)

    def get_batch(self, feed: Any, steps: StepRange, step: tf.Tensor, carry: Any) -> tuple[Any, Any]:
        return carry, self._gather_batch(feed, steps, tf.minimum(step + 1, steps.last))

    def _gather_batch(self, feed: Any, steps: StepRange, step: tf.Tensor) -> Any:
        begin, end = self.slicer.get_process_range(steps.size)
        indices = tf.slice(steps.order, [step * self.slicer.batch_size + begin], [end - begin])
        return tf.nest.map_structure(lambda array: tf.gather(array, indices), feed)


def make_device_tensor(array: np.ndarray) -> tf.Tensor:
    """Returns the array as a tensor on the device; on a CPU without a copy, if its memory layout permits this.

    Copying a memory-mapped file takes as long as some epochs of a small model, and each trial of a sweep would do it.
    The array becomes read-only, because a write to the array would change the tensor.
    """
    if tf.config.list_logical_devices("GPU") or not _can_share_memory(array):
        return tf.constant(array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    array.setflags(write=False)
    return tensor


def _can_share_memory(array: np.ndarray) -> bool:
    is_aligned = array.ctypes.data % _ALIGNMENT_BYTES == 0 and array.flags.c_contiguous
    return (
        is_aligned and array.flags.writeable and array.dtype.kind in "fiu" and array.dtype.isnative and array.size > 0
    )


class StreamedSource:
    """A split that is read batch by batch, with the same order and the same values as `ResidentSource`."""

    PREFETCH_BATCHES = 8
    signature = None

    def __init__(self, split: Split, slicer: BatchSlicer) -> None:
        self.slicer = slicer
        self.parts = split.parts
        self.order = np.empty(0, np.int32)
        self.next_step = -1
        self.iterator: Any = None
        arrays = tf.nest.flatten(self.parts)
        self._types = [tf.as_dtype(array.dtype) for array in arrays]
        self._shapes = [array.shape[1:] for array in arrays]

    def make_feed(self, order: np.ndarray, first: int, count: int) -> Any:
        if first != self.next_step or order is not self.order:
            self.order = order
            steps = tf.data.Dataset.range(first, self.slicer.steps_per_epoch, output_type=tf.int32)
            batches = steps.map(self._load_batch, num_parallel_calls=2, deterministic=True).prefetch(
                self.PREFETCH_BATCHES
            )
            self.iterator = iter(batches)
        self.next_step = first + count
        return self.iterator

    def make_initial_carry(self, feed: Any, steps: StepRange) -> Any:
        return ()

    def get_batch(self, feed: Any, steps: StepRange, step: tf.Tensor, carry: Any) -> tuple[Any, Any]:
        begin, end = self.slicer.get_process_range(steps.size)
        batch = [
            tf.ensure_shape(array, (end - begin, *shape))
            for array, shape in zip(tf.nest.flatten(feed.get_next()), self._shapes, strict=True)
        ]
        return tf.nest.pack_sequence_as(self.parts, batch), carry

    def _load_batch(self, step: tf.Tensor) -> Any:
        arrays = tf.numpy_function(self._read_arrays, [step], self._types)
        for array, shape in zip(arrays, self._shapes, strict=True):
            array.set_shape((None, *shape))
        return tf.nest.pack_sequence_as(self.parts, arrays)

    def _read_arrays(self, step: np.ndarray) -> list[np.ndarray]:
        start = int(step) * self.slicer.batch_size
        begin, end = self.slicer.get_process_range(int(self.slicer.get_batch_sizes(int(step), 1)[0]))
        indices = self.order[start + begin : start + end]
        return [np.ascontiguousarray(array[indices]) for array in tf.nest.flatten(self.parts)]


def make_batch_source(split: Split, slicer: BatchSlicer, resident_bytes: float) -> BatchSource:
    """Returns a resident source if the split fits into `resident_bytes`, otherwise a streamed source."""
    if split.nbytes() > resident_bytes:
        return StreamedSource(split, slicer)
    return ResidentSource(split.in_memory(), slicer)


def apply_class_weights(data: Splits, weights: Mapping[str, float]) -> Splits:
    """Returns the data with sample weights of the training split multiplied by class weights.

    Args:
        data: splits of the dataset.
        weights: weights by class number or class name; other classes have the weight 1.

    Raises:
        ConfigError: if the data does not have a single target with classes, or a class is unknown.
    """
    if not weights:
        return data
    classes, class_names = data.spec.classes, list(data.spec.class_names)
    if not isinstance(classes, int):
        raise ConfigError("train.class_weight needs a single target with classes; remove train.class_weight")
    class_weights = np.ones(classes, np.float32)
    for name, weight in weights.items():
        class_number = class_names.index(name) if name in class_names else int(name) if name.isdigit() else -1
        if not 0 <= class_number < classes:
            known_classes = ", ".join(class_names) or f"0 to {classes - 1}"
            raise ConfigError(f"train.class_weight: unknown class {name!r}. Available: {known_classes}")
        class_weights[class_number] = weight
    own_weight = 1.0 if data.train.weight is None else data.train.weight
    weighted_split = dataclasses.replace(
        data.train, weight=(class_weights[data.train.y] * own_weight).astype(np.float32)
    )
    return dataclasses.replace(data, train=weighted_split)
