"""The compiled loop: many steps in one call, under any strategy."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.engine.batches import BatchSource, StepRange, make_batch_source
from expfw_backends.engine.replica_slices import BatchSlicer, ReplicaSlice
from expfw_backends.engine.steps import Step


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

    def get_step_columns(self, prefix: str) -> dict[str, np.ndarray] | None:
        """Returns the values of each single step, with `prefix` before the names; None if a mean has the count 0."""
        if not all(column.all() for column in self.counts.values()):
            return None
        means = {prefix + name: total / self.counts[name] for name, total in self.totals.items()}
        return means | {prefix + name: column for name, column in self.last_values.items()}

    def slice_steps(self, begin: int, end: int | None = None) -> StepValues:
        """Returns the values of steps `begin` to `end - 1`."""
        return StepValues(*({name: v[begin:end] for name, v in group.items()} for group in vars(self).values()))


class Loop:
    """Runs a step over batches of one split, any number of batches per call.

    XLA never compiles the whole loop: on a CPU that was some hundred times slower.

    Args:
        strategy: a `tf.distribute.Strategy`; its replicas run the step, each on its slice of the batch.
        step: the step.
        split: data of the batches.
        batch_size: samples per step, over all replicas; the last batch of an epoch may be smaller.
        resident_bytes: size limit in bytes; a larger split is streamed.
        xla: whether each step is compiled with XLA.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        step: Step,
        split: Split,
        batch_size: int,
        resident_bytes: float = float("inf"),
        xla: bool = False,
    ) -> None:
        self.strategy, self.step = strategy, step
        self.compute_on_replica = (
            tf.function(self._compute_on_replica, jit_compile=True) if xla else self._compute_on_replica
        )
        self.resident_bytes = resident_bytes
        self._set_split(split, batch_size)
        self.mean_names: list[str] = []
        self.last_names: list[str] = []
        self._compiled_loops: dict[int, Any] = {}

    def copy_for_split(self, split: Split) -> Self:
        """Returns the same loop over another split of the dataset; reuses the compiled functions if possible."""
        loop_copy = copy.copy(self)
        loop_copy._set_split(split, self.slicer.batch_size)
        if loop_copy.source.signature is None or loop_copy.source.signature != self.source.signature:
            loop_copy._compiled_loops = {}
        return loop_copy

    def _set_split(self, split: Split, batch_size: int) -> None:
        self.slicer = BatchSlicer(len(split), batch_size, self.strategy)
        self.samples, self.steps_per_epoch = len(split), self.slicer.steps_per_epoch
        self.source = self.make_source(split, self.resident_bytes)

    def make_source(self, split: Split, resident_bytes: float) -> BatchSource:
        """Returns the source of the batches."""
        return make_batch_source(split, self.slicer, resident_bytes)

    def run(self, order: np.ndarray, first: int, count: int) -> StepValues:
        """Runs steps `first` to `first + count - 1` of an epoch.

        Args:
            order: permutation of all samples in the epoch, int32 `(samples,)`.
            first: first step.
            count: number of steps.
        """
        rows = [
            self._get_compiled_loop(size)(
                self.source.make_feed(order, begin, steps), order, tf.constant(begin), tf.constant(steps)
            ).numpy()
            for begin, steps, size in self.split_steps(first, count)
        ]
        return self._make_values(np.concatenate(rows), first)

    def split_steps(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Splits steps by batch size, since the last batch of an epoch may be smaller.

        Each size has its own compiled loop, in which all shapes are known. That is much faster.

        Yields:
            First step, number of steps, batch size.
        """
        full_steps = min(count, self.samples // self.slicer.batch_size - first)
        if full_steps > 0:
            yield first, full_steps, self.slicer.batch_size
        if full_steps < count:
            yield first + full_steps, 1, self.samples % self.slicer.batch_size

    def _get_compiled_loop(self, size: int) -> Any:
        """Returns the compiled loop for batches of this size."""
        if size not in self._compiled_loops:
            # Without AutoGraph, as in Keras: the conversion takes half a second, and the steps need none.
            self._compiled_loops[size] = tf.function(
                lambda feed, order, first, count: self._run_steps(feed, order, first, count, size),
                autograph=False,
                input_signature=self.source.signature,
            )
        return self._compiled_loops[size]

    def _make_values(self, rows: np.ndarray, first: int) -> StepValues:
        sizes = self.slicer.get_batch_sizes(first, len(rows))
        columns = iter(rows.astype(np.float64).T)
        totals, counts = {"loss": next(columns) * sizes}, {"loss": sizes.astype(np.float64)}
        for name in self.mean_names:
            totals[name], counts[name] = next(columns), next(columns)
        return StepValues(totals, counts, last_values={name: next(columns) for name in self.last_names})

    def _run_steps(self, feed: Any, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor, size: int) -> tf.Tensor:
        steps = StepRange(tf.convert_to_tensor(order), first, first + count - 1, size)
        if size != self.slicer.batch_size:  # there is only one such batch; without a loop it is traced faster
            batch, _ = self.source.get_batch(feed, steps, first, self.source.make_initial_carry(feed, steps))
            return self._run_step(batch, size)[tf.newaxis]

        def body(index: tf.Tensor, carry: Any, rows: tf.TensorArray) -> tuple[tf.Tensor, Any, tf.TensorArray]:
            batch, carry = self.source.get_batch(feed, steps, first + index, carry)
            return index + 1, carry, rows.write(index, self._run_step(batch, size))

        _, _, rows = tf.while_loop(
            lambda index, *_: index < count,
            body,
            (0, self.source.make_initial_carry(feed, steps), tf.TensorArray(tf.float32, size=count, infer_shape=False)),
            parallel_iterations=1,
        )
        return rows.stack()

    def _run_step(self, batch: Any, size: int) -> tf.Tensor:
        if self.slicer.replicas == 1:
            row = self.strategy.run(self.compute_on_replica, args=(batch, None))
        else:
            row = self.strategy.run(self._compute_on_slice, args=(batch, size))
            row = self.strategy.reduce("SUM", row, axis=None)
        last_values = self.step.finish()  # outside of the replicas, over all replicas
        self.last_names[:] = sorted(last_values)
        return (
            tf.concat([row, [tf.cast(last_values[name], tf.float32) for name in self.last_names]], 0)
            if last_values
            else row
        )

    def _compute_on_slice(self, batch: Any, size: int) -> tf.Tensor:
        replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        begin, end, replica_slice = self.slicer.get_replica_slice(int(replica), size)
        return self.compute_on_replica(tf.nest.map_structure(lambda array: array[begin:end], batch), replica_slice)

    def _compute_on_replica(self, batch: Any, replica_slice: ReplicaSlice | None) -> tf.Tensor:
        loss, means = self.step(batch, replica_slice)
        self.mean_names[:] = sorted(means)  # known after the first trace, then constant
        copies = 1 if replica_slice is None else replica_slice.copies
        row = [loss, *(value / copies if copies > 1 else value for name in self.mean_names for value in means[name])]
        return tf.stack([tf.cast(value, tf.float32) for value in row])


class RunningMeans:
    """Adds up the values of steps in float64; metrics that are not means keep their latest value.

    Steps are added one by one, so the sums are bit-identical for any division of the steps into calls of the engine.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.totals: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.last_values: dict[str, float] = {}

    def add(self, values: StepValues) -> None:
        """Adds steps."""
        for name, column in values.totals.items():
            self.totals[name] = _add_in_order(self.totals.get(name, 0.0), column)
            self.counts[name] = _add_in_order(self.counts.get(name, 0.0), values.counts[name])
        self.last_values.update({name: float(column[-1]) for name, column in values.last_values.items() if len(column)})

    def take(self, prefix: str) -> dict[str, float]:
        """Returns the means, with `prefix` before the names, and resets them."""
        means = {prefix + name: total / self.counts[name] for name, total in self.totals.items() if self.counts[name]}
        means.update({prefix + name: value for name, value in self.last_values.items()})
        self._clear()
        return means

    def state(self) -> dict[str, Any]:
        """Returns the sums as JSON values."""
        return {"totals": dict(self.totals), "counts": dict(self.counts), "last": dict(self.last_values)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores the sums that `state` returned."""
        self.totals, self.counts, self.last_values = (dict(state[name]) for name in ("totals", "counts", "last"))


def _add_in_order(total: float, column: np.ndarray) -> float:
    return float(np.cumsum(np.concatenate([[total], column]))[-1])  # NumPy's `sum` adds pairwise, `cumsum` one by one
