"""What processes that train in step must decide alike."""

from __future__ import annotations

import tensorflow as tf

from expfw import Run


class Agreement:
    """Before each call of the engine: how many steps at most, as worker 0 says; whether to stop or to leave, as anybody
    says.

    Worker 0 decides by the clock, a callback of any worker by what only it sees; were each to follow its own, some
    would wait for the others for ever. Other strategies have one process, which agrees with itself.

    Args:
        local: replicas of a process.

    Attributes:
        leaving: whether all leave after the next call; None where each process decides for itself.
    """

    def __init__(self, strategy: tf.distribute.Strategy, local: int) -> None:
        self.strategy, self.local = strategy, local
        self.several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.leaving: bool | None = None
        self._sum = tf.function(self._sum_of_all)

    def __call__(self, run: Run, pace: int) -> int:
        """The agreed pace; asks the run to stop where another worker does."""
        if not self.several:
            return pace
        pace = pace if self.strategy.extended._is_chief else 0
        own = tf.constant([pace, run.stopping, run.pruned, run.leave_requested], tf.float32)
        agreed, stopping, pruned, leaving = self._sum(own).numpy()
        if stopping and not run.stopping:
            if pruned:
                run.prune("another worker did")
            else:
                run.request_stop("another worker did")
        self.leaving = bool(leaving)
        return int(agreed) // self.local  # each replica of worker 0 has added it

    def _sum_of_all(self, own: tf.Tensor) -> tf.Tensor:
        return self.strategy.reduce("SUM", self.strategy.run(lambda value: value, args=(own,)), axis=None)
