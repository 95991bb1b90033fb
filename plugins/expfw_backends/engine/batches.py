"""Where the loop's batches come from: data that stay on the device, or data that stream from disk."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.engine.replica_slices import Shares

_ALIGNMENT = 64  # bytes; TensorFlow's instructions load that much at a time


class Steps(NamedTuple):
    """Consecutive steps of an epoch, as the compiled loop sees them.

    Attributes:
        order: the epoch's permutation of the samples, int32.
        first, last: numbers of the first and last of these steps in the epoch, int32 scalars.
        size: samples in each of their batches.
    """

    order: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor
    size: int


class Source(Protocol):
    """Gives the loop one batch after the other, inside of the compiled loop.

    Attributes:
        signature: of the compiled loop, `(feed, order, first, count)`, if it is the same for splits of any size.
    """

    signature: Any

    def feed(self, order: np.ndarray, first: int, count: int) -> Any:
        """What the compiled loop is given for these steps of an epoch; called before each of its calls."""

    def begin(self, feed: Any, steps: Steps) -> Any:
        """In the loop, before its first step: what is carried from step to step."""

    def next(self, feed: Any, steps: Steps, step: tf.Tensor, carried: Any) -> tuple[Any, Any]:
        """In the loop: the batch of `step`, a tuple like `Split.parts`, and what is carried on."""


class Resident:
    """A split kept on the device; while one step computes, the batch of the next is gathered.

    Args:
        shares: says which samples of a batch this process needs.
    """

    def __init__(self, split: Split, shares: Shares) -> None:
        self.shares = shares
        self.data = tf.nest.map_structure(resident, split.parts)
        feed = tf.nest.map_structure(lambda one: tf.TensorSpec((None, *one.shape[1:]), one.dtype), self.data)
        number = tf.TensorSpec((), tf.int32)
        self.signature = (feed, tf.TensorSpec((None,), tf.int32), number, number)

    def feed(self, order: np.ndarray, first: int, count: int) -> Any:
        return self.data

    def begin(self, feed: Any, steps: Steps) -> Any:
        return self._gathered(feed, steps, steps.first)

    def next(self, feed: Any, steps: Steps, step: tf.Tensor, carried: Any) -> tuple[Any, Any]:
        return carried, self._gathered(feed, steps, tf.minimum(step + 1, steps.last))

    def _gathered(self, feed: Any, steps: Steps, step: tf.Tensor) -> Any:
        begin, end = self.shares.of_process(steps.size)
        chosen = tf.slice(steps.order, [step * self.shares.batch_size + begin], [end - begin])
        return tf.nest.map_structure(lambda array: tf.gather(array, chosen), feed)


def resident(array: np.ndarray) -> tf.Tensor:
    """The array where the device computes; on a processor without a copy, if it lies in memory as TensorFlow wants it.

    To copy what is on disk by memory map takes as long as some epochs of a small model, and each trial of a sweep would
    do it. From then on the array is read-only: who wrote to it would write to the tensor.
    """
    if tf.config.list_logical_devices("GPU") or not _as_tensorflow_wants_it(array):
        return tf.constant(array)
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    array.setflags(write=False)
    return tensor


def _as_tensorflow_wants_it(array: np.ndarray) -> bool:
    where = array.ctypes.data % _ALIGNMENT == 0 and array.flags.c_contiguous
    return where and array.flags.writeable and array.dtype.kind in "fiu" and array.dtype.isnative and array.size > 0


class Streamed:
    """A split that is read batch by batch while it is needed; the same order and the same numbers as `Resident`."""

    AHEAD = 8
    signature = None

    def __init__(self, split: Split, shares: Shares) -> None:
        self.shares = shares
        self.parts = split.parts
        self.order = np.empty(0, np.int32)
        self.expected = -1
        self.iterator: Any = None
        arrays = tf.nest.flatten(self.parts)
        self._types = [tf.as_dtype(array.dtype) for array in arrays]
        self._shapes = [array.shape[1:] for array in arrays]

    def feed(self, order: np.ndarray, first: int, count: int) -> Any:
        if first != self.expected or order is not self.order:
            self.order = order
            steps = tf.data.Dataset.range(first, self.shares.steps_per_epoch, output_type=tf.int32)
            batches = steps.map(self._batch, num_parallel_calls=2, deterministic=True).prefetch(self.AHEAD)
            self.iterator = iter(batches)
        self.expected = first + count
        return self.iterator

    def begin(self, feed: Any, steps: Steps) -> Any:
        return ()

    def next(self, feed: Any, steps: Steps, step: tf.Tensor, carried: Any) -> tuple[Any, Any]:
        begin, end = self.shares.of_process(steps.size)
        batch = [
            tf.ensure_shape(array, (end - begin, *shape))
            for array, shape in zip(tf.nest.flatten(feed.get_next()), self._shapes, strict=True)
        ]
        return tf.nest.pack_sequence_as(self.parts, batch), carried

    def _batch(self, step: tf.Tensor) -> Any:
        arrays = tf.numpy_function(self._read, [step], self._types)
        for array, shape in zip(arrays, self._shapes, strict=True):
            array.set_shape((None, *shape))
        return tf.nest.pack_sequence_as(self.parts, arrays)

    def _read(self, step: np.ndarray) -> list[np.ndarray]:
        start = int(step) * self.shares.batch_size
        begin, end = self.shares.of_process(int(self.shares.sizes(int(step), 1)[0]))
        chosen = self.order[start + begin : start + end]
        return [np.ascontiguousarray(array[chosen]) for array in tf.nest.flatten(self.parts)]


def source(split: Split, shares: Shares, resident_bytes: float) -> Source:
    """Resident data where they fit into `resident_bytes`, else streamed ones."""
    if split.nbytes() > resident_bytes:
        return Streamed(split, shares)
    return Resident(split.in_memory(), shares)
