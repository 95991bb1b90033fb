"""Evaluation on whole splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from expfw import Splits, Train
from expfw_backends.engine.loop import Loop, RunningMeans
from expfw_backends.engine.replica_slices import find_even_batch_size
from expfw_backends.engine.trainable import TrainableModel


class Evaluator:
    """Evaluates a model on the splits of a dataset, with one compiled loop for all splits.

    Args:
        strategy: strategy of the training.
        trainable: the model and its steps.
        data: splits of the dataset.
        make_loop: creates a compiled loop from a strategy, a step, a split and a batch size.
        batch_size: maximum number of samples per step, over all replicas.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, trainable: TrainableModel, data: Splits, make_loop: Any, batch_size: int
    ) -> None:
        self.strategy, self.trainable, self.data, self._make_loop = strategy, trainable, data, make_loop
        self.batch_size = batch_size
        if strategy.num_replicas_in_sync == 1:
            lengths = [len(split) for name, split in data.get_splits().items() if name != "train"]
            self.batch_size = find_even_batch_size(lengths, batch_size) or batch_size
        self._loops: dict[str, Loop] = {}

    def evaluate_split(self, name: str) -> dict[str, float]:
        """Returns loss and metrics over the samples of a split, in order, with the current weights."""
        loop = self._get_loop(name)
        self.trainable.reset_metrics()
        means = RunningMeans()
        means.add(loop.run(np.arange(loop.samples, dtype=np.int32), 0, loop.steps_per_epoch))
        return means.take("")

    def _get_loop(self, name: str) -> Loop:
        if name not in self._loops:
            split = getattr(self.data, name)
            existing_loop = next(iter(self._loops.values()), None)
            self._loops[name] = (
                self._make_loop(self.strategy, self.trainable.evaluation_step, split, self.batch_size)
                if existing_loop is None
                else existing_loop.copy_for_split(split)
            )
        return self._loops[name]


def evaluate_splits(
    strategy: tf.distribute.Strategy, model: Any, data: Splits, splits: Sequence[str], config: Train, make_loop: Any
) -> dict[str, dict[str, float]]:
    """Returns loss and metrics of a trained model on each of these splits, computed as at the end of a run."""
    evaluation_config = dataclasses.replace(
        config, accumulate=1, average=None, clip_norm=None, clip_value=None
    )  # training options only
    trainable = TrainableModel(strategy, model, data, evaluation_config)
    evaluator = Evaluator(strategy, trainable, data, make_loop, config.batch_size)
    return {name: evaluator.evaluate_split(name) for name in splits}
