"""The compiled loop: many steps in one call, under any strategy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.engine.batches import Source, Steps, source
from expfw_backends.engine.replica_slices import Share, Shares
from expfw_backends.engine.steps import Step


@dataclass(frozen=True)
class Values:
    """What some consecutive steps came to, `(steps,)` each.

    Attributes:
        totals, counts: of each metric that is a mean, its sum in that batch and what it is a mean over. `loss` is
            among them: the loss of the batch, and its samples.
        last: other metrics, as they stood after the step.
    """

    totals: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    last: dict[str, np.ndarray]

    @property
    def losses(self) -> np.ndarray:
        """The loss of each batch."""
        losses: np.ndarray = self.totals["loss"] / self.counts["loss"]
        return losses

    def each_step(self, prefix: str) -> dict[str, np.ndarray] | None:
        """What each of the steps came to by itself, under `prefix`; None where a mean is over nothing."""
        if not all(column.all() for column in self.counts.values()):
            return None
        means = {prefix + name: total / self.counts[name] for name, total in self.totals.items()}
        return means | {prefix + name: column for name, column in self.last.items()}

    def part(self, begin: int, end: int | None = None) -> Values:
        """Some of these steps."""
        return Values(*({name: v[begin:end] for name, v in group.items()} for group in vars(self).values()))


class Loop:
    """Runs a step over batches of one split, as many of them per call as asked for.

    XLA is never put around the whole of it: on a CPU that was some hundred times slower.

    Args:
        strategy: a `tf.distribute.Strategy`; its replicas run the step, each on its slice of the batch.
        batch_size: samples per step, of all replicas together; the last batch of an epoch may be smaller.
        resident_bytes: a larger split is streamed.
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
        self.on_replica = tf.function(self._on_replica, jit_compile=True) if xla else self._on_replica
        self.resident_bytes = resident_bytes
        self._take(split, batch_size)
        self.names: list[str] = []
        self.last_names: list[str] = []
        self._compiled: dict[int, Any] = {}

    def over(self, split: Split) -> Self:
        """The same loop over another split of the same dataset; what is compiled for one is not for the other again."""
        other = copy.copy(self)
        other._take(split, self.shares.batch_size)
        if other.source.signature is None or other.source.signature != self.source.signature:
            other._compiled = {}
        return other

    def _take(self, split: Split, batch_size: int) -> None:
        self.shares = Shares(len(split), batch_size, self.strategy)
        self.samples, self.steps_per_epoch = len(split), self.shares.steps_per_epoch
        self.source = self.make_source(split, self.resident_bytes)

    def make_source(self, split: Split, resident_bytes: float) -> Source:
        """Where the batches come from."""
        return source(split, self.shares, resident_bytes)

    def run(self, order: np.ndarray, first: int, count: int) -> Values:
        """Steps `first` to `first + count - 1` of an epoch.

        Args:
            order: the epoch's permutation of all samples, int32 `(samples,)`.
        """
        rows = [
            self._steps(size)(
                self.source.feed(order, begin, steps), order, tf.constant(begin), tf.constant(steps)
            ).numpy()
            for begin, steps, size in self.pieces(first, count)
        ]
        return self._values(np.concatenate(rows), first)

    def pieces(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """The same steps as (first, count, size of their batches): the last batch of an epoch may be smaller.

        Each size has a compiled loop of its own, in which all shapes are known: that is a good deal faster.
        """
        whole = min(count, self.samples // self.shares.batch_size - first)
        if whole > 0:
            yield first, whole, self.shares.batch_size
        if whole < count:
            yield first + whole, 1, self.samples % self.shares.batch_size

    def _steps(self, size: int) -> Any:
        """The compiled loop for batches of this size."""
        if size not in self._compiled:
            # Without AutoGraph, as Keras does it: converting what has no Python conditions takes half a second.
            self._compiled[size] = tf.function(
                lambda feed, order, first, count: self._many_steps(feed, order, first, count, size),
                autograph=False,
                input_signature=self.source.signature,
            )
        return self._compiled[size]

    def _values(self, rows: np.ndarray, first: int) -> Values:
        sizes = self.shares.sizes(first, len(rows))
        columns = iter(rows.astype(np.float64).T)
        totals, counts = {"loss": next(columns) * sizes}, {"loss": sizes.astype(np.float64)}
        for name in self.names:
            totals[name], counts[name] = next(columns), next(columns)
        return Values(totals, counts, last={name: next(columns) for name in self.last_names})

    def _many_steps(self, feed: Any, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor, size: int) -> tf.Tensor:
        steps = Steps(tf.convert_to_tensor(order), first, first + count - 1, size)
        if size != self.shares.batch_size:  # the last batch of an epoch is alone; no loop is quicker to trace
            batch, _ = self.source.next(feed, steps, first, self.source.begin(feed, steps))
            return self._one_step(batch, size)[tf.newaxis]

        def body(done: tf.Tensor, carried: Any, rows: tf.TensorArray) -> tuple[tf.Tensor, Any, tf.TensorArray]:
            batch, carried = self.source.next(feed, steps, first + done, carried)
            return done + 1, carried, rows.write(done, self._one_step(batch, size))

        _, _, rows = tf.while_loop(
            lambda done, *_: done < count,
            body,
            (0, self.source.begin(feed, steps), tf.TensorArray(tf.float32, size=count, infer_shape=False)),
            parallel_iterations=1,
        )
        return rows.stack()

    def _one_step(self, batch: Any, size: int) -> tf.Tensor:
        if self.shares.replicas == 1:
            row = self.strategy.run(self.on_replica, args=(batch, None))
        else:
            row = self.strategy.run(self._on_slice, args=(batch, size))
            row = self.strategy.reduce("SUM", row, axis=None)
        last = self.step.finish()  # outside of the replicas, over all of them together
        self.last_names[:] = sorted(last)
        return tf.concat([row, [tf.cast(last[name], tf.float32) for name in self.last_names]], 0) if last else row

    def _on_slice(self, batch: Any, size: int) -> tf.Tensor:
        replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        begin, end, share = self.shares.of_replica(int(replica), size)
        return self.on_replica(tf.nest.map_structure(lambda array: array[begin:end], batch), share)

    def _on_replica(self, batch: Any, share: Share | None) -> tf.Tensor:
        loss, means = self.step(batch, share)
        self.names[:] = sorted(means)  # known once this is traced, and the same ever after
        copies = 1 if share is None else share.copies
        row = [loss, *(value / copies if copies > 1 else value for name in self.names for value in means[name])]
        return tf.stack([tf.cast(value, tf.float32) for value in row])
