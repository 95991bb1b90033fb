"""The engine: the training loop of all TensorFlow backends."""

from __future__ import annotations

import dataclasses
import time
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
from expfw_backends.engine.batches import apply_class_weights
from expfw_backends.engine.consensus import WorkerConsensus
from expfw_backends.engine.evaluations import Evaluator
from expfw_backends.engine.keras_callbacks import KerasCallbacks
from expfw_backends.engine.loop import Loop, RunningMeans, StepValues
from expfw_backends.engine.model_arrays import assign_arrays, collect_variables, make_model_state
from expfw_backends.engine.random_state import get_random_state, restore_random_state
from expfw_backends.engine.sample_order import make_permutation
from expfw_backends.engine.trainable import TrainableModel

TARGET_CALL_SECONDS = 0.3  # a call of the compiled loop runs as many steps as fit into this time


class Engine:
    """Trains, evaluates and tests one model on one dataset.

    `train/loss` at a step is the loss of one batch before its update; the step is the number of earlier updates. At
    step 0 it is the loss of the initial model. Other `train/*` metrics are means over the samples since the last log.
    `train/epoch_*` metrics are means over the samples of the epoch.

    Args:
        strategy: strategy of the training.
        model: a Keras model or a `tf.Module`, see `expfw.Model.build`; built in the scope of `strategy`.
        data: splits of the dataset.
        run: run that the engine trains for.
        make_loop: creates a compiled loop from a strategy, a step function, a split and a batch size.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, model: Any, data: Splits, run: Run, make_loop: Any = Loop
    ) -> None:
        self.strategy, self.model, self.run = strategy, model, run
        self.config = run.config.train
        self.data = apply_class_weights(data, self.config.class_weight)
        self.trainable = TrainableModel(strategy, model, self.data, self.config, run.keep_gradients)
        self.train_loop = make_loop(strategy, self.trainable.train_step, self.data.train, self.config.batch_size)
        self.steps_per_epoch = self.train_loop.steps_per_epoch
        self.total_steps = self.config.steps or self.config.epochs * self.steps_per_epoch
        run.total_steps, run.steps_per_epoch = self.total_steps, self.steps_per_epoch
        self.keras_callbacks = KerasCallbacks(run, model)
        self._consensus = WorkerConsensus(strategy, self.train_loop.slicer.replicas_per_process)
        self.evaluator = Evaluator(strategy, self.trainable, self.data, make_loop, self.config.batch_size)
        if run.objective.metric.rpartition("/")[2] not in ("loss", "epoch_loss"):
            run.objective.check(self._list_metric_names())
        self._log_means, self._epoch_means = RunningMeans(), RunningMeans()
        self._steps_per_call = 1 if self.keras_callbacks.needs_every_step else 16
        self._learning_rate = self.trainable.get_learning_rate()
        self._best_weights: tuple[int, list[np.ndarray]] | None = None
        self._is_traced = False

    def fit(self) -> Result:
        """Trains to the last step, or until the run is stopped; then evaluates on the test data."""
        run = self.run
        order, order_epoch = np.empty(0, np.int32), -1
        self.keras_callbacks.on_train_begin()
        self._restore_checkpoint()
        while run.step < self.total_steps:
            self._steps_per_call = self._consensus(run, self._steps_per_call)  # the same in all processes
            if run.is_stopping:
                break
            epoch, position = divmod(run.step, self.steps_per_epoch)
            if order_epoch != epoch:
                order, order_epoch = make_permutation(run.config.seed, epoch, self.train_loop.samples), epoch
                if position == 0:  # not if a checkpoint was taken in the middle of this epoch
                    self.trainable.reset_metrics()
                    self.keras_callbacks.on_epoch_begin()
            self._run_steps(order, position, self._choose_step_count(position))
            run.hook.expfw_steps_ended(run=run)
            ends_epoch = run.step % self.steps_per_epoch == 0
            if ends_epoch:
                run.epoch += 1
                run.log(self._epoch_means.take("train/epoch_"))
                self._log_learning_rate()
            if self._is_evaluation_due(ends_epoch):
                self._validate()
            if ends_epoch:
                self.keras_callbacks.on_epoch_end()
                run.hook.expfw_epoch_ended(run=run)
            run.safe_point(self._consensus.is_interrupted)
        self.keras_callbacks.on_train_end()
        self._test()
        return run.result()

    def gradients(self) -> list[np.ndarray]:
        """Returns the gradients of the last step, one per trained variable; empty if the run does not keep them."""
        return [gradient.numpy() for gradient in self.trainable.update.kept_gradients] if self.trainable.update else []

    def state(self) -> ModelState:
        """Returns the state to resume from: variables, best weights, sums of the current epoch, random states."""
        step, best_arrays = self._best_weights or (None, [])
        model_state = make_model_state(self._collect_variables())
        callback_state = self.keras_callbacks.state()
        arrays = {
            **model_state.arrays,
            **{f"best/{number:03d}": array for number, array in enumerate(best_arrays)},
            **{f"keras_callbacks/{name}": array for name, array in callback_state.arrays.items()},
        }
        values = {
            "steps_per_epoch": self.steps_per_epoch,
            "seed": self.run.config.seed,
            "best": step,
            "since_log": self._log_means.state(),
            "since_epoch": self._epoch_means.state(),
            "learning_rate": self._learning_rate,
            "keras_callbacks": callback_state.values,
            "random": get_random_state(),
        }
        return ModelState(arrays, values, model_state.names)

    def restore(self, state: ModelState) -> None:
        """Restores a state that `state` returned.

        Raises:
            ConfigError: if the state belongs to a training with another seed or number of steps per epoch.
        """
        values = state.values
        for name, value in {"steps_per_epoch": self.steps_per_epoch, "seed": self.run.config.seed}.items():
            if values[name] != value:
                raise ConfigError(
                    f"the checkpoint has {name}={values[name]}, this training has {value}; expected the same data, "
                    "train.batch_size and seed, because the order of the samples depends on them"
                )
        other_prefixes = ("best/", "keras_callbacks/")
        assign_arrays(
            self._collect_variables(), {n: a for n, a in state.arrays.items() if not n.startswith(other_prefixes)}
        )
        if values["best"] is not None:
            best_arrays = state.part("best")
            self._best_weights = (values["best"], [best_arrays[f"{number:03d}"] for number in range(len(best_arrays))])
        self._log_means.restore(values["since_log"])
        self._epoch_means.restore(values["since_epoch"])
        self._learning_rate = values["learning_rate"]
        if values["keras_callbacks"] is not None:
            self.keras_callbacks.restore(ModelState(state.part("keras_callbacks"), values["keras_callbacks"]))
        restore_random_state(values["random"])

    def _list_metric_names(self) -> list[str]:
        """Returns the names of all metrics of this training."""
        prefixes = {"train": ("train/", "train/epoch_"), "validation": ("val/",), "test": ("test/",)}
        names = self.trainable.list_metric_names(self.data)
        return [prefix + name for split in self.data.get_splits() for prefix in prefixes[split] for name in names]

    def _collect_variables(self) -> dict[str, Any]:
        averages = self.trainable.update.averages if self.trainable.update else ()
        return collect_variables(self.model, training=True, averages=averages)

    def _restore_checkpoint(self) -> None:
        """Resumes this run, or loads the checkpoint in `train.begin_from`."""
        run = self.run
        if run.checkpoint is not None:
            checkpoint, run.checkpoint = run.checkpoint, None
            run.hook.expfw_restore(model=self.model, state=checkpoint.model, training=True)
        elif self.config.begin_from is not None:
            self._begin_from_checkpoint(self.config.begin_from)

    def _begin_from_checkpoint(self, folder: str) -> None:
        run = self.run
        try:
            checkpoint = read_checkpoint(Path(folder))
        except JournalError as error:
            raise ConfigError(f"train.begin_from={folder}: {error}") from error
        cleared_values = {"best": None, "keras_callbacks": None}
        state = dataclasses.replace(checkpoint.model, values={**checkpoint.model.values, **cleared_values})
        run.hook.expfw_restore(model=self.model, state=state, training=True)
        if checkpoint.step >= self.total_steps:
            raise ConfigError(
                f"train.begin_from={folder} is at step {checkpoint.step} and this training ends at step "
                f"{self.total_steps}; increase train.epochs or train.steps"
            )
        run.step, run.epoch = checkpoint.step, checkpoint.step // self.steps_per_epoch
        run.message(f"starts at step {run.step}, from {folder}")

    def _choose_step_count(self, position: int) -> int:
        """Returns the number of steps in the next call, up to the next evaluation or requested hook."""
        run = self.run
        end_steps = [run.step + self._steps_per_call, self.total_steps, run.step - position + self.steps_per_epoch]
        every = self.config.evaluate_every.steps
        if every is not None:
            end_steps.append((run.step // every + 1) * every)
        if (hook_step := run.next_hook_step()) is not None:
            end_steps.append(hook_step)
        return int(min(end_steps) - run.step)

    def _run_steps(self, order: np.ndarray, position: int, count: int) -> None:
        self.keras_callbacks.on_step_begin()
        started_at = time.perf_counter()
        with self.run.stage("training" if self._is_traced else "first steps"):
            values = self.train_loop.run(order, position, count)
        seconds, self._is_traced = time.perf_counter() - started_at, True
        if not self.keras_callbacks.needs_every_step:
            self._steps_per_call = int(
                np.clip(count * TARGET_CALL_SECONDS / seconds, self._steps_per_call // 2 + 1, self._steps_per_call * 8)
            )
        self._log_values(values, count)
        self._check_losses(values.losses)
        self.run.step += count
        self.keras_callbacks.on_step_end(values)

    def _check_losses(self, losses: np.ndarray) -> None:
        if not np.isfinite(losses).all():
            step = self.run.step + int(np.argmin(np.isfinite(losses)))
            advice = "try a smaller learning rate" if step else "check the data and the initial weights"
            checkpoint_hint = (
                f" (earlier checkpoints: {self.run.folder}/checkpoints)" if checkpoint_steps(self.run.folder) else ""
            )
            raise TrainingError(f"the loss is {losses[step - self.run.step]} at step {step}; {advice}{checkpoint_hint}")

    def _log_values(self, values: StepValues, count: int) -> None:
        """Logs the steps that are multiples of `train.log_every`; keeps the values after the last one for later."""
        run, every, begin = self.run, self.config.log_every, 0
        losses = values.losses
        if every == 1 and (columns := values.get_step_columns("train/")) is not None:
            run.log_steps(columns, step=run.step)
            self._epoch_means.add(values)
            return
        for index in range(-run.step % every, count, every):
            self._log_means.add(values.slice_steps(begin, index + 1))
            point = self._log_means.take("train/")
            point["train/loss"] = float(losses[index])
            run.log(point, step=run.step + index)
            begin = index + 1
        self._log_means.add(values.slice_steps(begin))
        self._epoch_means.add(values)

    def _log_learning_rate(self) -> None:
        """Logs the learning rate, but only after a schedule or a callback has changed it for the first time."""
        rate = self.trainable.get_learning_rate()
        if rate is not None and rate != self._learning_rate:
            self._learning_rate = None  # log every value from now on
            self.run.log({"train/learning_rate": rate})

    def _is_evaluation_due(self, ends_epoch: bool) -> bool:
        every = self.config.evaluate_every
        if self.run.step == self.total_steps:
            return True
        if every.steps is not None:
            return self.run.step % every.steps == 0
        return ends_epoch and every.epochs is not None and self.run.epoch % every.epochs == 0

    def _validate(self) -> None:
        run, update = self.run, self.trainable.update
        if update is not None:
            update.swap_averages()
        if self.data.validation is not None:
            metric_state = self.trainable.get_metric_state()
            self.keras_callbacks.on_test_begin()
            with run.stage("evaluating"):
                means = self.evaluator.evaluate_split("validation")
            self.trainable.restore_metric_state(metric_state)  # of the current epoch
            run.log({f"val/{name}": value for name, value in means.items()})
            self.keras_callbacks.on_test_end(means)
        if self.config.test_on == "best" and run.best_step == run.step:
            self._best_weights = (run.step, [v.numpy() for v in self._list_weights()])
        if update is not None:
            update.swap_averages()
        if self.data.validation is not None:
            run.hook.expfw_evaluated(run=run)

    def _test(self) -> None:
        if self._best_weights is not None:
            for variable, value in zip(self._list_weights(), self._best_weights[1], strict=True):
                variable.assign(value)
            self.run.message(f"the best weights, from step {self._best_weights[0]}, are tested and saved")
        elif self.trainable.update is not None:
            self.trainable.update.finalize_weights()
        if self.data.test is not None and not self.run.pruned:
            with self.run.stage("testing"):
                means = self.evaluator.evaluate_split("test")
            self.run.log({f"test/{name}": value for name, value in means.items()})

    def _list_weights(self) -> list[Any]:
        return list(collect_variables(self.model, training=False).values())
