"""Common decisions of processes that train synchronously."""

from __future__ import annotations

import tensorflow as tf

from expfw import Run


class WorkerConsensus:
    """Common decisions of all workers before each call of the engine.

    Worker 0 decides the maximum number of steps, from its clock. Any worker can stop or interrupt the run, for example
    from a callback. If the workers decided separately, some of them would wait forever for the others. Other strategies
    have one process and need no agreement.

    Args:
        strategy: strategy of the training.
        replicas_per_process: replicas of a process.

    Attributes:
        is_interrupted: whether an interrupt ends all processes after the next call; None for a single process.
    """

    def __init__(self, strategy: tf.distribute.Strategy, replicas_per_process: int) -> None:
        self.strategy, self.replicas_per_process = strategy, replicas_per_process
        self.has_several_processes = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.is_interrupted: bool | None = None
        self._compiled_sum = tf.function(self._sum_over_workers)

    def __call__(self, run: Run, steps_per_call: int) -> int:
        """Returns the agreed number of steps per call; stops the run if another worker stops."""
        if not self.has_several_processes:
            return steps_per_call
        steps_per_call = steps_per_call if self.strategy.extended._is_chief else 0
        own_values = tf.constant([steps_per_call, run.is_stopping, run.pruned, run.interrupt_requested], tf.float32)
        agreed_steps, stopping, pruned, interrupted = self._compiled_sum(own_values).numpy()
        if stopping and not run.is_stopping:
            if pruned:
                run.prune("pruned by another worker")
            else:
                run.request_stop("stopped by another worker")
        self.is_interrupted = bool(interrupted)
        return int(agreed_steps) // self.replicas_per_process  # the sum contains it once per replica of worker 0

    def _sum_over_workers(self, own_values: tf.Tensor) -> tf.Tensor:
        return self.strategy.reduce("SUM", self.strategy.run(lambda value: value, args=(own_values,)), axis=None)
