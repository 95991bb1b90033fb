"""What processes that train in step must decide alike."""

from __future__ import annotations

import tensorflow as tf

from expfw import Run


class WorkerConsensus:
    """Before each call of the engine: how many steps at most, as worker 0 says; whether to stop or to leave, as anybody
    says.

    Worker 0 decides by the clock, a callback of any worker by what only it sees; were each to follow its own, some
    would wait for the others for ever. Other strategies have one process, which agrees with itself.

    Args:
        replicas_per_process: replicas of a process.

    Attributes:
        leaving: whether all leave after the next call; None where each process decides for itself.
    """

    def __init__(self, strategy: tf.distribute.Strategy, replicas_per_process: int) -> None:
        self.strategy, self.replicas_per_process = strategy, replicas_per_process
        self.has_several_processes = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.leaving: bool | None = None
        self._compiled_sum = tf.function(self._sum_over_workers)

    def __call__(self, run: Run, steps_per_call: int) -> int:
        """The agreed pace; asks the run to stop where another worker does."""
        if not self.has_several_processes:
            return steps_per_call
        steps_per_call = steps_per_call if self.strategy.extended._is_chief else 0
        own_values = tf.constant([steps_per_call, run.is_stopping, run.pruned, run.leave_requested], tf.float32)
        agreed_steps, stopping, pruned, leaving = self._compiled_sum(own_values).numpy()
        if stopping and not run.is_stopping:
            if pruned:
                run.prune("another worker did")
            else:
                run.request_stop("another worker did")
        self.leaving = bool(leaving)
        return int(agreed_steps) // self.replicas_per_process  # each replica of worker 0 has added it

    def _sum_over_workers(self, own_values: tf.Tensor) -> tf.Tensor:
        return self.strategy.reduce("SUM", self.strategy.run(lambda value: value, args=(own_values,)), axis=None)
