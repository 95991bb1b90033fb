"""The compiled loop: many steps in one call, under any strategy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.engine.batches import WHOLE_BATCH, BatchSlicer, make_device_tensor
from expfw_backends.engine.steps import Step

_PART_BYTES = 2**23  # bytes of a streamed split to read at a time


@dataclass(frozen=True)
class StepValues:
    """Values of consecutive steps; each array has the shape `(steps,)`.

    Attributes:
        totals: sum over the batch, by mean metric. For `loss`: batch loss times samples.
        counts: number of summed values, by mean metric. For `loss`: samples in the batch.
        last_values: other metrics, by name; their value after the step.
    """

    totals: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    last_values: dict[str, np.ndarray]

    @property
    def losses(self) -> np.ndarray:
        """The loss of each batch."""
        losses: np.ndarray = self.totals["loss"] / self.counts["loss"]
        return losses


@dataclass
class RunningMeans:
    """Adds up the values of steps in float64; metrics that are not means keep their latest value.

    Steps are added one by one, so the sums are bit-identical for any division of the steps into calls of the engine.
    """

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def add(self, values: StepValues, begin: int = 0, end: int | None = None) -> None:
        """Adds steps `begin` to `end - 1`."""
        for sums, columns in ((self.totals, values.totals), (self.counts, values.counts)):
            for name, column in columns.items():  # NumPy's `sum` adds pairwise, `cumsum` one by one
                sums[name] = float(np.cumsum(np.concatenate([[sums.get(name, 0.0)], column[begin:end]]))[-1])
        self.last.update({name: float(c[begin:end][-1]) for name, c in values.last_values.items() if len(c[begin:end])})

    def take(self, prefix: str) -> dict[str, float]:
        """Returns the means, with `prefix` before the names, and resets them."""
        means = {prefix + name: total / self.counts[name] for name, total in self.totals.items() if self.counts[name]}
        means |= {prefix + name: value for name, value in self.last.items()}
        self.totals, self.counts, self.last = {}, {}, {}
        return means


class Loop:
    """Runs a step over batches of any split, any number of batches per call.

    XLA never compiles the whole loop: on a CPU that was some hundred times slower.

    Args:
        strategy: its replicas run the step, each on its slice of the batch.
        step: a training or evaluation step.
        batch_size: samples per step, over all replicas; the last batch of an epoch may be smaller.
        resident_bytes: size limit in bytes; a larger split is streamed from disk in parts.
        xla: whether each step is compiled with XLA.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        step: Step,
        batch_size: int,
        resident_bytes: float = float("inf"),
        xla: bool = False,
    ) -> None:
        self.strategy, self.step, self.batch_size, self.resident_bytes = strategy, step, batch_size, resident_bytes
        self.slicer = BatchSlicer(strategy)
        compute = self._compute_on_replica
        self._compute = tf.function(compute, jit_compile=True) if xla else compute
        self._mean_names: list[str] = []  # known after the first trace, then constant
        self._last_names: list[str] = []
        self._resident_splits: dict[int, tuple[Split, Any]] = {}
        self._compiled_loops: dict[tuple[int, str], Any] = {}

    def run(self, split: Split, order: np.ndarray, first: int, count: int) -> StepValues:
        """Runs steps `first` to `first + count - 1` of an epoch.

        Args:
            split: data of the batches.
            order: permutation of all samples in the epoch, int32 `(samples,)`.
            first: first step.
            count: number of steps.
        """
        rows = [
            self._get_compiled_loop(samples, size)(samples, positions, tf.constant(begin), tf.constant(steps)).numpy()
            for samples, positions, begin, steps, size in self._iterate_parts(split, order, first, count)
        ]
        return self._make_values(np.concatenate(rows), len(split), first)

    def _iterate_parts(
        self, split: Split, order: np.ndarray, first: int, count: int
    ) -> Iterator[tuple[Any, np.ndarray, int, int, int]]:
        """Yields parts of the steps: samples, their order, first step in this order, number of steps, batch size."""
        if split.nbytes() <= self.resident_bytes:
            if id(split) not in self._resident_splits:
                samples = tf.nest.map_structure(make_device_tensor, split.in_memory().parts)
                self._resident_splits[id(split)] = split, samples
            samples = self._resident_splits[id(split)][1]
            for begin, steps, size in self.split_steps(len(split), first, count):
                yield samples, order, begin, steps, size
            return
        batch_bytes = split.nbytes() * self.batch_size // len(split) + 1
        parts = list(self.split_steps(len(split), first, count, max(1, _PART_BYTES // batch_bytes)))
        with ThreadPoolExecutor(1) as executor:  # reads a part while the part before is computed
            reading = executor.submit(self.read_part, split, order, *parts[0])
            for part, next_part in zip(parts, [*parts[1:], None], strict=True):
                samples, positions = reading.result()
                if next_part is not None:
                    reading = executor.submit(self.read_part, split, order, *next_part)
                yield samples, positions, 0, *part[1:]

    def read_part(self, split: Split, order: np.ndarray, first: int, steps: int, size: int) -> tuple[Any, np.ndarray]:
        """Reads the samples of this process for some steps; returns them and their order, which begins with step 0."""
        begin, end = self.slicer.get_process_range(size)
        places = np.arange(steps * size).reshape(steps, size)[:, begin:end].ravel()
        rows = order[first * self.batch_size + places]
        positions = np.zeros(steps * size, np.int32)
        positions[places] = np.arange(len(places))
        return tf.nest.map_structure(lambda array: tf.constant(array[rows]), split.parts), positions

    def split_steps(
        self, samples: int, first: int, count: int, max_steps: int = sys.maxsize
    ) -> Iterator[tuple[int, int, int]]:
        """Splits steps by batch size, since the last batch of an epoch may be smaller.

        Each size has its own compiled loop, in which all shapes are known. That is much faster.

        Yields:
            First step, number of steps, batch size.
        """
        end = min(first + count, samples // self.batch_size)
        while first < end:
            steps = min(max_steps, end - first)
            yield first, steps, self.batch_size
            first, count = first + steps, count - steps
        if count:
            yield first, 1, samples % self.batch_size

    def _get_compiled_loop(self, samples: Any, size: int) -> Any:
        """Returns the compiled loop for batches of this size; splits of the same types and shapes share it."""
        spec = tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), samples)
        key = size, str(spec)
        if key not in self._compiled_loops:
            scalar_spec = tf.TensorSpec((), tf.int32)
            # Without AutoGraph, as in Keras: the conversion takes half a second, and the steps need none.
            self._compiled_loops[key] = tf.function(
                lambda samples, order, first, count: self._run_steps(samples, order, first, count, size),
                autograph=False,
                input_signature=(spec, tf.TensorSpec((None,), tf.int32), scalar_spec, scalar_spec),
            )
        return self._compiled_loops[key]

    def _make_values(self, rows: np.ndarray, samples: int, first: int) -> StepValues:
        sizes = np.minimum(self.batch_size, samples - (first + np.arange(len(rows))) * self.batch_size)
        columns = iter(rows.astype(np.float64).T)
        totals, counts = {"loss": next(columns) * sizes}, {"loss": sizes.astype(np.float64)}
        for name in self._mean_names:
            totals[name], counts[name] = next(columns), next(columns)
        return StepValues(totals, counts, last_values={name: next(columns) for name in self._last_names})

    def _run_steps(self, samples: Any, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor, size: int) -> tf.Tensor:
        begin, end = self.slicer.get_process_range(size)

        def gather_batch(step: tf.Tensor) -> Any:
            indices = tf.slice(order, [step * self.batch_size + begin], [end - begin])
            return tf.nest.map_structure(lambda array: tf.gather(array, indices), samples)

        if size != self.batch_size:  # there is only one such batch; without a loop it is traced faster
            return self._run_step(gather_batch(first), size)[tf.newaxis]

        def body(index: tf.Tensor, batch: Any, rows: tf.TensorArray) -> tuple[tf.Tensor, Any, tf.TensorArray]:
            next_batch = gather_batch(first + tf.minimum(index + 1, count - 1))  # while this step computes
            return index + 1, next_batch, rows.write(index, self._run_step(batch, size))

        _, _, rows = tf.while_loop(
            lambda index, *_: index < count,
            body,
            (0, gather_batch(first), tf.TensorArray(tf.float32, size=count, infer_shape=False)),
            parallel_iterations=1,
        )
        return rows.stack()

    def _run_step(self, batch: Any, size: int) -> tf.Tensor:
        row = self.strategy.run(self._compute, args=(batch, size))
        if self.slicer.replicas > 1:
            row = self.strategy.reduce("SUM", row, axis=None)
        last_values = self.step.finish()  # outside of the replicas, over all replicas
        self._last_names[:] = sorted(last_values)
        last_row = [tf.cast(last_values[name], tf.float32) for name in self._last_names]
        return tf.concat([row, last_row], 0) if last_row else row

    def _compute_on_replica(self, batch: Any, size: int) -> tf.Tensor:
        replica_slice = WHOLE_BATCH
        if self.slicer.replicas > 1:
            replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
            begin, end, replica_slice = self.slicer.get_replica_slice(int(replica), size)
            batch = tf.nest.map_structure(lambda array: array[begin:end], batch)
        loss, means = self.step(batch, replica_slice)
        self._mean_names[:] = sorted(means)
        values = [value for name in self._mean_names for value in means[name]]
        if replica_slice.copies > 1:
            values = [value / replica_slice.copies for value in values]
        return tf.stack([tf.cast(value, tf.float32) for value in (loss, *values)])
