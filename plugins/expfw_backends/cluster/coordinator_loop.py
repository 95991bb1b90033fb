"""A loop in parts: each part is sent, with its data, to the next free worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.cluster.rendezvous import Connections
from expfw_backends.engine.batches import StepRange
from expfw_backends.engine.loop import Loop, StepValues
from expfw_backends.engine.steps import Step

_POLL_SECONDS = 0.02


class CoordinatorLoop(Loop):
    """A loop whose steps run on the workers of a `ClusterCoordinator`, several parts in parallel.

    Args:
        coordinator: the `ClusterCoordinator`.
        connections: connections to the other processes; the loop fails if one of them ends.
        steps_at_once: steps of a part.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        step: Step,
        split: Split,
        batch_size: int,
        coordinator: Any,
        connections: Connections,
        steps_at_once: int,
    ) -> None:
        self.coordinator, self.connections, self.steps_at_once = coordinator, connections, steps_at_once
        super().__init__(strategy, step, split, batch_size)
        self._compiled_steps = tf.function(self._run_steps, autograph=False, reduce_retracing=True)

    def make_source(self, split: Split, resident_bytes: float) -> Any:
        return FeedSource(split, self.slicer.batch_size)

    def run(self, order: np.ndarray, first: int, count: int) -> StepValues:
        empty_order = np.empty(0, np.int32)  # the feed is already in this order
        remote_values = []
        for begin, steps, size in self.split_steps(first, count):
            feed = self.source.make_feed(order, begin, steps)
            arguments = (feed, empty_order, np.int32(begin), np.int32(steps), size)
            remote_values.append(self.coordinator.schedule(self._compiled_steps, args=arguments))
        while not self.coordinator.done():  # `join` never returns if the last worker is lost
            if lost_tasks := self.connections.find_lost_tasks(_POLL_SECONDS):
                raise tf.errors.UnavailableError(None, None, f"lost {', '.join(lost_tasks)}")
        self.coordinator.join()
        return self._make_values(np.concatenate([remote_value.fetch() for remote_value in remote_values]), first)

    def split_steps(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        for begin, steps, size in super().split_steps(first, count):
            for part_begin in range(begin, begin + steps, self.steps_at_once):
                yield part_begin, min(self.steps_at_once, begin + steps - part_begin), size


class FeedSource:
    """Sends the batches of a part along with its steps."""

    signature = None

    def __init__(self, split: Split, batch_size: int) -> None:
        self.parts, self.batch_size = split.parts, batch_size

    def make_feed(self, order: np.ndarray, first: int, count: int) -> Any:
        indices = order[first * self.batch_size : (first + count) * self.batch_size]
        return tf.nest.map_structure(lambda array: tf.constant(array[indices]), self.parts)

    def make_initial_carry(self, feed: Any, steps: StepRange) -> Any:
        return ()

    def get_batch(self, feed: Any, steps: StepRange, step: tf.Tensor, carry: Any) -> tuple[Any, Any]:
        start = (step - steps.first) * self.batch_size

        def slice_step(array: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(array[start : start + steps.size], (steps.size, *array.shape[1:]))

        return tf.nest.map_structure(slice_step, feed), carry
