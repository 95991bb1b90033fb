"""The engine: the one training loop that every TensorFlow backend shares."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

from expfw import Result, Run, Splits, TrainingError
from expfw_backends import steps
from expfw_backends.arrays import variables_of
from expfw_backends.loop import Loop

CALL_SECONDS = 0.3


def permutation(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The order of the samples in an epoch: a pure function of seed and epoch, int32 `(samples,)`."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(samples).astype(np.int32)


class Engine:
    """Trains, evaluates and tests one model on one dataset.

    A step's `train/loss` is the loss of its batch, logged with the number of updates done before it: at step 0 it is
    the loss of the initial model. Other `train/*` are means over the samples since the last log. `train/epoch_*` are
    means over the samples of the epoch.

    Args:
        model: a compiled Keras model, or a `tf.Module` with the same steps; built in the scope of `strategy`.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: Any, data: Splits, run: Run) -> None:
        self.strategy, self.model, self.data, self.run = strategy, model, data, run
        self.config = run.config.train
        with strategy.scope():
            steps.prepare(model, data.train.x[:1], data.train.y[:1])
        self.train = Loop(strategy, steps.training_step(model), data.train, self.config.batch_size)
        self.epoch_length = self.train.steps_per_epoch
        self.total = self.config.steps or self.config.epochs * self.epoch_length
        run.total_steps, run.steps_per_epoch = self.total, self.epoch_length
        self._evaluations: dict[str, Loop] = {}
        self._cumulative = steps.cumulative(model)
        self._since_log = _Means()
        self._since_epoch = _Means()
        self._pace = 16
        self._best: tuple[int, list[np.ndarray]] | None = None

    def fit(self) -> Result:
        """Trains to the end, or until somebody asks to stop; then evaluates on the test data."""
        run = self.run
        order, order_of = np.empty(0, np.int32), -1
        while run.step < self.total and not run.stopping:
            epoch, position = divmod(run.step, self.epoch_length)
            if order_of != epoch:
                order, order_of = permutation(run.config.seed, epoch, self.train.samples), epoch
                steps.reset(self.model)
            self._call(order, position, self._length(position))
            run.hook.expfw_steps_ended(run=run)
            ends_epoch = run.step % self.epoch_length == 0
            if ends_epoch:
                run.epoch += 1
                run.log(self._since_epoch.take("train/epoch_"))
            if self._evaluation_due(ends_epoch):
                self._validate()
            if ends_epoch:
                run.hook.expfw_epoch_ended(run=run)
        self._test()
        return run.result()

    def evaluate(self, name: str) -> dict[str, float]:
        """Means over the samples of a split, in order, with the model as it is."""
        if name not in self._evaluations:
            split = getattr(self.data, name)
            self._evaluations[name] = Loop(
                self.strategy, steps.evaluation_step(self.model), split, self.config.batch_size
            )
        loop = self._evaluations[name]
        steps.reset(self.model)
        values = loop.run(np.arange(loop.samples, dtype=np.int32), 0, loop.steps_per_epoch)
        means = _Means()
        means.add(values, loop.sizes(0, loop.steps_per_epoch), self._cumulative)
        return means.take("")

    def _length(self, position: int) -> int:
        """Steps in the next call: up to the nearest thing that somebody asked for."""
        run = self.run
        ends = [run.step + self._pace, self.total, run.step - position + self.epoch_length]
        every = self.config.evaluate_every.steps
        if every is not None:
            ends.append((run.step // every + 1) * every)
        if (wake := run.next_wake()) is not None:
            ends.append(wake)
        return min(ends) - run.step

    def _call(self, order: np.ndarray, position: int, count: int) -> None:
        began = time.perf_counter()
        values = self.train.run(order, position, count)
        spent = time.perf_counter() - began
        self._pace = int(np.clip(count * CALL_SECONDS / spent, self._pace // 2 + 1, self._pace * 8))
        self._log(values, self.train.sizes(position, count))
        self._check(values["loss"])
        self.run.step += count

    def _check(self, losses: np.ndarray) -> None:
        if not np.isfinite(losses).all():
            step = self.run.step + int(np.argmin(np.isfinite(losses)))
            raise TrainingError(
                f"the loss is {losses[step - self.run.step]} at step {step}; try a smaller learning rate"
            )

    def _log(self, values: dict[str, np.ndarray], sizes: np.ndarray) -> None:
        """Logs the points that fall into a call, and keeps the rest for the next."""
        run, every, begin = self.run, self.config.log_every, 0
        for index in range(-run.step % every, len(sizes), every):
            part = {name: column[begin : index + 1] for name, column in values.items()}
            self._since_log.add(part, sizes[begin : index + 1], self._cumulative)
            point = self._since_log.take("train/")
            point["train/loss"] = float(values["loss"][index])
            run.log(point, step=run.step + index)
            begin = index + 1
        rest = {name: column[begin:] for name, column in values.items()}
        self._since_log.add(rest, sizes[begin:], self._cumulative)
        self._since_epoch.add(values, sizes, self._cumulative)

    def _evaluation_due(self, ends_epoch: bool) -> bool:
        every = self.config.evaluate_every
        if self.run.step == self.total:
            return True
        if every.steps is not None:
            return self.run.step % every.steps == 0
        return ends_epoch and every.epochs is not None and self.run.epoch % every.epochs == 0

    def _validate(self) -> None:
        run = self.run
        if self.data.validation is not None:
            accumulated = [v.numpy() for v in self._metric_variables()]
            run.log({f"val/{name}": value for name, value in self.evaluate("validation").items()})
            for variable, value in zip(self._metric_variables(), accumulated, strict=True):
                variable.assign(value)  # the evaluation went through the same metrics as the running epoch
            run.hook.expfw_evaluated(run=run)
        if self.config.test_on == "best" and run.best_step == run.step:
            self._best = (run.step, [v.numpy() for v in self._weights()])

    def _test(self) -> None:
        if self._best is not None:
            for variable, value in zip(self._weights(), self._best[1], strict=True):
                variable.assign(value)
            self.run.message(f"weights of step {self._best[0]}, the best, are tested and saved")
        if self.data.test is not None and not self.run.pruned:
            self.run.log({f"test/{name}": value for name, value in self.evaluate("test").items()})

    def _weights(self) -> list[Any]:
        return list(variables_of(self.model, training=False).values())

    def _metric_variables(self) -> list[Any]:
        return [variable for metric in getattr(self.model, "metrics", ()) for variable in metric.variables]


class _Means:
    """Running means over samples, in float64."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.samples = 0
        self.sums: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def add(self, values: dict[str, np.ndarray], sizes: np.ndarray, cumulative: set[str]) -> None:
        if len(sizes) == 0:
            return
        self.samples += int(sizes.sum())
        for name, column in values.items():
            if name in cumulative:
                self.last[name] = float(column[-1])
            else:
                self.sums[name] = self.sums.get(name, 0.0) + float(column.astype(np.float64) @ sizes)

    def take(self, prefix: str) -> dict[str, float]:
        """The means so far, under `prefix`; then begins anew."""
        means = {prefix + name: total / self.samples for name, total in self.sums.items()} if self.samples else {}
        means.update({prefix + name: value for name, value in self.last.items()})
        self._clear()
        return means
