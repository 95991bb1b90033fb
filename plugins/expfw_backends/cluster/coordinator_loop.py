"""The loop in parts: each is sent, with its data, to whichever worker is free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from expfw import Split
from expfw_backends.cluster.rendezvous import Connections
from expfw_backends.engine.batches import Steps
from expfw_backends.engine.loop import Loop, Values
from expfw_backends.engine.steps import Step

_PAUSE = 0.02


class ScheduledLoop(Loop):
    """A loop whose steps run on the workers of a `ClusterCoordinator`, several parts at the same time.

    Args:
        others: the processes that must not end meanwhile.
        steps_at_once: how many steps a part has.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        step: Step,
        split: Split,
        batch_size: int,
        coordinator: Any,
        others: Connections,
        steps_at_once: int,
    ) -> None:
        self.coordinator, self.others, self.steps_at_once = coordinator, others, steps_at_once
        super().__init__(strategy, step, split, batch_size)
        self._part = tf.function(self._many_steps, autograph=False, reduce_retracing=True)

    def make_source(self, split: Split, resident_bytes: float) -> Any:
        return Sent(split, self.shares.batch_size)

    def run(self, order: np.ndarray, first: int, count: int) -> Values:
        nothing = np.empty(0, np.int32)  # the order goes into the feed
        parts = []
        for begin, steps, size in self.pieces(first, count):
            feed = self.source.feed(order, begin, steps)
            arguments = (feed, nothing, np.int32(begin), np.int32(steps), size)
            parts.append(self.coordinator.schedule(self._part, args=arguments))
        while not self.coordinator.done():  # would wait for ever for the last worker
            if gone := self.others.gone(_PAUSE):
                raise tf.errors.UnavailableError(None, None, f"lost {', '.join(gone)}")
        self.coordinator.join()
        return self._values(np.concatenate([part.fetch() for part in parts]), first)

    def pieces(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        for begin, steps, size in super().pieces(first, count):
            for part in range(begin, begin + steps, self.steps_at_once):
                yield part, min(self.steps_at_once, begin + steps - part), size


class Sent:
    """Batches that travel with the steps that need them."""

    signature = None

    def __init__(self, split: Split, batch_size: int) -> None:
        self.parts, self.batch_size = split.parts, batch_size

    def feed(self, order: np.ndarray, first: int, count: int) -> Any:
        chosen = order[first * self.batch_size : (first + count) * self.batch_size]
        return tf.nest.map_structure(lambda array: tf.constant(array[chosen]), self.parts)

    def begin(self, feed: Any, steps: Steps) -> Any:
        return ()

    def next(self, feed: Any, steps: Steps, step: tf.Tensor, carried: Any) -> tuple[Any, Any]:
        start = (step - steps.first) * self.batch_size

        def of_step(array: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(array[start : start + steps.size], (steps.size, *array.shape[1:]))

        return tf.nest.map_structure(of_step, feed), carried
