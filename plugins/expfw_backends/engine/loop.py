"""The compiled loop: many steps in one call, under any strategy."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.engine.batches import WHOLE_BATCH, BatchSlicer, make_device_tensor
from expfw_backends.engine.steps import NOT_INLINED, Step

_PART_BYTES = 2**23  # bytes of a streamed split to read at a time
Call = tuple[Any, tuple[Any, ...]]  # a compiled loop and its arguments


@dataclass(frozen=True)
class StepValues:
    """Values of consecutive steps by metric; each array has the shape `(steps,)`."""

    totals: dict[str, np.ndarray]  # of means: sum over the batch; for `loss`: batch loss times samples
    counts: dict[str, np.ndarray]  # of means: number of summed values; for `loss`: samples in the batch
    last_values: dict[str, np.ndarray]  # of other metrics: their value after the step

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
    """Runs a step over batches of any split, any number of batches per call; each replica computes a slice of a batch.

    XLA compiles each step, never the whole loop: on a CPU that was some hundred times slower.

    Args:
        resident_bytes: size limit in bytes; a larger split is streamed from disk in parts.
        part_steps: steps of a streamed part; by default as many as fit into 8 MiB.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        step: Step,
        batch_size: int,
        resident_bytes: float = float("inf"),
        part_steps: int | None = None,
        xla: bool = False,
    ) -> None:
        self.strategy, self.step, self.batch_size = strategy, step, batch_size
        self.resident_bytes, self.part_steps = resident_bytes, part_steps
        self.slicer = BatchSlicer(strategy)
        self._compute = tf.function(self._compute_on_replica, jit_compile=True) if xla else self._compute_on_replica
        self._mean_names: list[str] = []  # known after the first trace, then constant
        self._last_names: list[str] = []
        self._resident_splits: dict[int, tuple[Split, Any]] = {}
        self._compiled_loops: dict[tuple[int, str], Any] = {}

    def run(self, split: Split, order: np.ndarray, first: int, count: int) -> StepValues:
        """Runs steps `first` to `first + count - 1` of an epoch; `order` is its permutation of all samples, int32."""
        rows = self.compute(
            (self._get_compiled_loop(samples, size), (samples, positions, tf.constant(begin), tf.constant(steps)))
            for samples, positions, begin, steps, size in self._iterate_parts(split, order, first, count)
        )
        columns = iter(np.concatenate(rows).astype(np.float64).T)
        sizes = np.minimum(self.batch_size, len(split) - np.arange(first, first + count) * self.batch_size)
        totals, counts = {"loss": next(columns) * sizes}, {"loss": sizes.astype(np.float64)}
        for name in self._mean_names:
            totals[name], counts[name] = next(columns), next(columns)
        return StepValues(totals, counts, last_values={name: next(columns) for name in self._last_names})

    def compute(self, calls: Iterable[Call]) -> list[np.ndarray]:
        """Returns the values of all steps: a row per step, in an array per call."""
        return [function(*arguments).numpy() for function, arguments in calls]

    def _iterate_parts(
        self, split: Split, order: np.ndarray, first: int, count: int
    ) -> Iterator[tuple[Any, np.ndarray, int, int, int]]:
        """Yields samples, their order, first step in this order, number of steps and batch size of each part."""
        if split.nbytes() <= self.resident_bytes:
            if id(split) not in self._resident_splits:
                samples = tf.nest.map_structure(make_device_tensor, split.in_memory().parts)
                self._resident_splits[id(split)] = split, samples
            samples = self._resident_splits[id(split)][1]
            yield from ((samples, order, *part) for part in self._split_steps(len(split), first, count))
            return
        batch_bytes = split.nbytes() * self.batch_size // len(split) + 1
        parts = self._split_steps(len(split), first, count, self.part_steps or max(1, _PART_BYTES // batch_bytes))
        with ThreadPoolExecutor(1) as executor:  # reads a part while the part before is computed
            next_part = executor.submit(self._read_part, split, order, *next(parts))
            for steps_of_part in parts:
                part, next_part = next_part, executor.submit(self._read_part, split, order, *steps_of_part)
                yield part.result()
            yield next_part.result()

    def _read_part(
        self, split: Split, order: np.ndarray, first: int, steps: int, size: int
    ) -> tuple[Any, np.ndarray, int, int, int]:
        """Reads a part with the samples of this process only; their order begins with step 0."""
        begin, end = self.slicer.get_process_range(size)
        places = np.arange(steps * size).reshape(steps, size)[:, begin:end].ravel()
        rows = order[first * self.batch_size + places]
        positions = np.zeros(steps * size, np.int32)
        positions[places] = np.arange(len(places))
        return tf.nest.map_structure(lambda array: tf.constant(array[rows]), split.parts), positions, 0, steps, size

    def _split_steps(
        self, samples: int, first: int, count: int, max_steps: int = sys.maxsize
    ) -> Iterator[tuple[int, int, int]]:
        """Yields first step, number of steps and batch size of parts; the last batch of an epoch may be smaller.

        Each size has its own compiled loop, in which all shapes are known. That is much faster.
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

    def _run_steps(self, samples: Any, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor, size: int) -> tf.Tensor:
        begin, end = self.slicer.get_process_range(size)

        def gather_batch(step: tf.Tensor) -> Any:
            indices = tf.slice(order, [step * self.batch_size + begin], [end - begin])
            return tf.nest.map_structure(lambda array: tf.gather(array, indices), samples)

        if size != self.batch_size:  # there is only one such batch; without a loop it is traced faster
            return self._run_step(gather_batch(first), size)[tf.newaxis]

        run_step = tf.function(
            lambda batch: self._run_step(batch, size), autograph=False, experimental_attributes=NOT_INLINED
        )

        def body(index: tf.Tensor, batch: Any, rows: tf.TensorArray) -> tuple[tf.Tensor, Any, tf.TensorArray]:
            next_batch = gather_batch(first + tf.minimum(index + 1, count - 1))  # while this step computes
            return index + 1, next_batch, rows.write(index, run_step(batch))

        _, _, rows = tf.while_loop(
            lambda index, *_: index < count,
            body,
            (0, gather_batch(first), tf.TensorArray(keras.config.floatx(), size=count, infer_shape=False)),
            parallel_iterations=1,
        )
        return rows.stack()

    def _run_step(self, batch: Any, size: int) -> tf.Tensor:
        row = self.strategy.run(self._compute, args=(batch, size))
        if self.slicer.replicas > 1:
            row = self.strategy.reduce("SUM", row, axis=None)
        last_values = self.step.finish()  # outside of the replicas, over all replicas
        self._last_names[:] = sorted(last_values)
        last_row = [tf.cast(last_values[name], keras.config.floatx()) for name in self._last_names]
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
        if not replica_slice.counts_metrics:
            values = [tf.zeros_like(value) for value in values]
        return tf.stack([tf.cast(value, keras.config.floatx()) for value in (loss, *values)])
