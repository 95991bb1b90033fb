"""The engine: the one training loop that every TensorFlow backend shares."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from expfw import (
    ConfigError,
    JournalError,
    ModelState,
    Result,
    Run,
    Splits,
    TrainingError,
    checkpoint_steps,
    read_checkpoint,
)
from expfw_backends.engine.consensus import Agreement
from expfw_backends.engine.evaluations import Evaluations
from expfw_backends.engine.keras_callbacks import KerasCallbacks
from expfw_backends.engine.loop import Loop, Values
from expfw_backends.engine.model_arrays import arrays_of, assign, variables_of
from expfw_backends.engine.random_state import random_state, restore_random_state
from expfw_backends.engine.running_means import Means
from expfw_backends.engine.sample_weights import weighted_by_class
from expfw_backends.engine.trainable import Trainable

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
        model: a Keras model or a `tf.Module`, see `expfw.Model.build`; built in the scope of `strategy`.
        loop: makes a compiled loop of a step and a split.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: Any, data: Splits, run: Run, loop: Any = Loop) -> None:
        self.strategy, self.model, self.run = strategy, model, run
        self.config = run.config.train
        self.data = weighted_by_class(data, self.config.class_weight)
        self.trainable = Trainable(strategy, model, self.data, self.config, run.keep_gradients)
        self.train = loop(strategy, self.trainable.train, self.data.train, self.config.batch_size)
        self.epoch_length = self.train.steps_per_epoch
        self.total = self.config.steps or self.config.epochs * self.epoch_length
        run.total_steps, run.steps_per_epoch = self.total, self.epoch_length
        self.keras_callbacks = KerasCallbacks(run, model)
        self._agree = Agreement(strategy, self.train.shares.local)
        self.evaluations = Evaluations(strategy, self.trainable, self.data, loop, self.config.batch_size)
        if run.objective.metric.rpartition("/")[2] not in ("loss", "epoch_loss"):
            run.objective.check(self._metrics())
        self._since_log, self._since_epoch = Means(), Means()
        self._pace = 1 if self.keras_callbacks.every_step else 16
        self._learning_rate = self.trainable.learning_rate()
        self._best: tuple[int, list[np.ndarray]] | None = None
        self._traced = False

    def fit(self) -> Result:
        """Trains to the end, or until somebody asks to stop; then evaluates on the test data."""
        run = self.run
        order, order_of = np.empty(0, np.int32), -1
        self.keras_callbacks.train_begins()
        self._begin()
        while run.step < self.total:
            self._pace = self._agree(run, self._pace)
            if run.stopping:
                break
            epoch, position = divmod(run.step, self.epoch_length)
            if order_of != epoch:
                order, order_of = permutation(run.config.seed, epoch, self.train.samples), epoch
                if position == 0:  # else it began before the checkpoint that the run goes on from
                    self.trainable.begin()
                    self.keras_callbacks.epoch_begins()
            self._call(order, position, self._length(position))
            run.hook.expfw_steps_ended(run=run)
            ends_epoch = run.step % self.epoch_length == 0
            if ends_epoch:
                run.epoch += 1
                run.log(self._since_epoch.take("train/epoch_"))
                self._log_learning_rate()
            if self._evaluation_due(ends_epoch):
                self._validate()
            if ends_epoch:
                self.keras_callbacks.epoch_ended()
                run.hook.expfw_epoch_ended(run=run)
            run.settle(self._agree.leaving)
        self.keras_callbacks.train_ended()
        self._test()
        return run.result()

    def gradients(self) -> list[np.ndarray]:
        """Those of the last step, one for each trained variable; empty where nobody asked for them beforehand."""
        return [kept.numpy() for kept in self.trainable.update.kept] if self.trainable.update else []

    def state(self) -> ModelState:
        """All that continuing needs: variables, the weights that were best, sums over the running epoch, randomness."""
        step, best = self._best or (None, [])
        kept = arrays_of(self._variables())
        callbacks = self.keras_callbacks.state()
        arrays = {**kept.arrays, **_numbered("best", best), **_under("keras_callbacks", callbacks.arrays)}
        values = {
            "steps_per_epoch": self.epoch_length,
            "seed": self.run.config.seed,
            "best": step,
            "since_log": self._since_log.state(),
            "since_epoch": self._since_epoch.state(),
            "learning_rate": self._learning_rate,
            "keras_callbacks": callbacks.values,
            "random": random_state(),
        }
        return ModelState(arrays, values, kept.names)

    def restore(self, state: ModelState) -> None:
        """Takes back what `state` gave."""
        values = state.values
        for name, value in {"steps_per_epoch": self.epoch_length, "seed": self.run.config.seed}.items():
            if values[name] != value:
                raise ConfigError(
                    f"the checkpoint has {name}={values[name]}, this training {value}; expected the same data, "
                    "train.batch_size and seed, or its step would be in another place"
                )
        others = ("best/", "keras_callbacks/")
        assign(self._variables(), {n: a for n, a in state.arrays.items() if not n.startswith(others)})
        if values["best"] is not None:
            best = state.part("best")
            self._best = (values["best"], [best[f"{number:03d}"] for number in range(len(best))])
        self._since_log.restore(values["since_log"])
        self._since_epoch.restore(values["since_epoch"])
        self._learning_rate = values["learning_rate"]
        if values["keras_callbacks"] is not None:
            self.keras_callbacks.restore(ModelState(state.part("keras_callbacks"), values["keras_callbacks"]))
        restore_random_state(values["random"])

    def _metrics(self) -> list[str]:
        """The names of all that will be logged."""
        before = {"train": ("train/", "train/epoch_"), "validation": ("val/",), "test": ("test/",)}
        names = self.trainable.metric_names(self.data)
        return [prefix + name for split in self.data.present() for prefix in before[split] for name in names]

    def _variables(self) -> dict[str, Any]:
        averages = self.trainable.update.averages if self.trainable.update else ()
        return variables_of(self.model, training=True, averages=averages)

    def _begin(self) -> None:
        """Goes on with this run, or from a checkpoint of another where the configuration names one."""
        run = self.run
        if run.checkpoint is not None:
            checkpoint, run.checkpoint = run.checkpoint, None
            run.hook.expfw_restore(model=self.model, state=checkpoint.model, training=True)
        elif self.config.begin_from is not None:
            self._begin_from(self.config.begin_from)

    def _begin_from(self, folder: str) -> None:
        run = self.run
        try:
            checkpoint = read_checkpoint(Path(folder))
        except JournalError as error:
            raise ConfigError(f"train.begin_from={folder}: {error}") from error
        not_ours = {"best": None, "keras_callbacks": None}
        state = dataclasses.replace(checkpoint.model, values={**checkpoint.model.values, **not_ours})
        run.hook.expfw_restore(model=self.model, state=state, training=True)
        if checkpoint.step >= self.total:
            raise ConfigError(
                f"train.begin_from={folder} is at step {checkpoint.step} and this training ends at step {self.total}; "
                "ask for more with train.epochs or train.steps"
            )
        run.step, run.epoch = checkpoint.step, checkpoint.step // self.epoch_length
        run.message(f"begins at step {run.step}, from {folder}")

    def _length(self, position: int) -> int:
        """Steps in the next call: up to the nearest thing that somebody asked for."""
        run = self.run
        ends = [run.step + self._pace, self.total, run.step - position + self.epoch_length]
        every = self.config.evaluate_every.steps
        if every is not None:
            ends.append((run.step // every + 1) * every)
        if (wake := run.next_wake()) is not None:
            ends.append(wake)
        return int(min(ends) - run.step)

    def _call(self, order: np.ndarray, position: int, count: int) -> None:
        self.keras_callbacks.step_begins()
        began = time.perf_counter()
        with self.run.stage("training" if self._traced else "first steps"):
            values = self.train.run(order, position, count)
        spent, self._traced = time.perf_counter() - began, True
        if not self.keras_callbacks.every_step:
            self._pace = int(np.clip(count * CALL_SECONDS / spent, self._pace // 2 + 1, self._pace * 8))
        self._log(values, count)
        self._check(values.losses)
        self.run.step += count
        self.keras_callbacks.step_ended(values)

    def _check(self, losses: np.ndarray) -> None:
        if not np.isfinite(losses).all():
            step = self.run.step + int(np.argmin(np.isfinite(losses)))
            advice = "try a smaller learning rate" if step else "the data, or the initial weights, are no good"
            kept = (
                f" (checkpoints from before: {self.run.folder}/checkpoints)"
                if checkpoint_steps(self.run.folder)
                else ""
            )
            raise TrainingError(f"the loss is {losses[step - self.run.step]} at step {step}; {advice}{kept}")

    def _log(self, values: Values, count: int) -> None:
        """Logs the points that fall into a call, and keeps the rest for the next."""
        run, every, begin = self.run, self.config.log_every, 0
        losses = values.losses
        if every == 1 and (columns := values.each_step("train/")) is not None:
            run.log_steps(columns, step=run.step)
            self._since_epoch.add(values)
            return
        for index in range(-run.step % every, count, every):
            self._since_log.add(values.part(begin, index + 1))
            point = self._since_log.take("train/")
            point["train/loss"] = float(losses[index])
            run.log(point, step=run.step + index)
            begin = index + 1
        self._since_log.add(values.part(begin))
        self._since_epoch.add(values)

    def _log_learning_rate(self) -> None:
        """Where it changes: by a schedule, or by a callback."""
        rate = self.trainable.learning_rate()
        if rate is not None and rate != self._learning_rate:
            self._learning_rate = None  # from now on, always
            self.run.log({"train/learning_rate": rate})

    def _evaluation_due(self, ends_epoch: bool) -> bool:
        every = self.config.evaluate_every
        if self.run.step == self.total:
            return True
        if every.steps is not None:
            return self.run.step % every.steps == 0
        return ends_epoch and every.epochs is not None and self.run.epoch % every.epochs == 0

    def _validate(self) -> None:
        run, update = self.run, self.trainable.update
        if update is not None:
            update.swap()
        if self.data.validation is not None:
            accumulated = self.trainable.accumulated()
            self.keras_callbacks.test_begins()
            with run.stage("evaluating"):
                means = self.evaluations.means("validation")
            self.trainable.put_back(accumulated)  # of the running epoch
            run.log({f"val/{name}": value for name, value in means.items()})
            self.keras_callbacks.test_ended(means)
        if self.config.test_on == "best" and run.best_step == run.step:
            self._best = (run.step, [v.numpy() for v in self._weights()])
        if update is not None:
            update.swap()
        if self.data.validation is not None:
            run.hook.expfw_evaluated(run=run)

    def _test(self) -> None:
        if self._best is not None:
            for variable, value in zip(self._weights(), self._best[1], strict=True):
                variable.assign(value)
            self.run.message(f"weights of step {self._best[0]}, the best, are tested and saved")
        elif self.trainable.update is not None:
            self.trainable.update.end()
        if self.data.test is not None and not self.run.pruned:
            with self.run.stage("testing"):
                means = self.evaluations.means("test")
            self.run.log({f"test/{name}": value for name, value in means.items()})

    def _weights(self) -> list[Any]:
        return list(variables_of(self.model, training=False).values())


def _numbered(group: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{group}/{number:03d}": array for number, array in enumerate(arrays)}


def _under(group: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{group}/{name}": array for name, array in arrays.items()}
