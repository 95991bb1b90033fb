"""The engine: the training loop of all TensorFlow backends."""

from __future__ import annotations

import copy
import dataclasses
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    Split,
    Splits,
    TrainingError,
    checkpoint_steps,
    read_checkpoint,
)
from expfw_backends.engine import model_arrays
from expfw_backends.engine.batches import apply_class_weights, make_permutation
from expfw_backends.engine.keras_callbacks import KerasCallbacks
from expfw_backends.engine.loop import Loop, RunningMeans, StepValues
from expfw_backends.engine.trainable import TrainableModel

_DENSE_EPOCHS = 10  # these first epochs are always logged
TARGET_CALL_SECONDS = 0.3  # a call of the compiled loop runs as many steps as fit into this time


class Engine:
    """Trains, evaluates and tests one model on one dataset; the arguments are those of `TrainableModel`.

    `train/loss` at a step is the loss of one batch before its update; the step is the number of earlier updates. At
    step 0 it is the loss of the initial model. Other `train/*` metrics are means over the samples since the last log.
    `train/epoch_*` metrics are means over the samples of an epoch. If epochs are shorter than `train.log_every` steps,
    not every epoch is logged; `run.metrics` contains the means of the last one.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, model: Any, data: Splits, run: Run, make_loop: Any = Loop
    ) -> None:
        self.strategy, self.model, self.run = strategy, model, run
        self.config = run.config.train
        self.data = apply_class_weights(data, self.config.class_weight)
        self.trainable = TrainableModel(strategy, model, self.data, self.config, make_loop, run.keep_gradients)
        self.loop, self.update = self.trainable.train_loop, self.trainable.update
        self.steps_per_epoch = -(-len(self.data.train) // self.config.batch_size)
        self.total_steps = self.config.steps or self.config.epochs * self.steps_per_epoch
        run.total_steps, run.steps_per_epoch = self.total_steps, self.steps_per_epoch
        self.keras_callbacks = KerasCallbacks(run, model)
        if run.objective.metric.rpartition("/")[2] not in ("loss", "epoch_loss"):
            run.objective.check(self.trainable.list_metrics())
        self._log_means, self._epoch_means = RunningMeans(), RunningMeans()
        self._steps_per_call = 1 if self.keras_callbacks.needs_every_step else 16
        self._learning_rate, self._stage = self.trainable.get_learning_rate(), "first steps"
        self._best_weights: tuple[int, Mapping[str, np.ndarray]] | None = None
        if self.config.test_on is None and getattr(getattr(model, "optimizer", None), "use_ema", False):
            run.test_on = "last"  # Keras averages the weights after the last step; the average is never evaluated
            run.objective = dataclasses.replace(run.objective, take=run.config.objective.take or "last")
        self._sum_over_workers = tf.function(
            lambda values: strategy.reduce("SUM", strategy.run(lambda value: value, args=(values,)), axis=None),
            autograph=False,
        )

    def fit(self) -> Result:
        """Trains to the last step, or until the run is stopped; then evaluates on the test data."""
        run = self.run
        order, order_epoch = np.empty(0, np.int32), -1
        self.keras_callbacks.on_train_begin()
        self._restore_checkpoint()
        while run.step < self.total_steps:
            is_interrupted = self._agree_with_workers()
            if run.is_stopping:
                break
            epoch, position = divmod(run.step, self.steps_per_epoch)
            if order_epoch != epoch:
                order, order_epoch = make_permutation(run.config.seed, epoch, len(self.data.train)), epoch
                if position == 0:  # not if a checkpoint was taken in the middle of this epoch
                    self.trainable.reset_metrics()
                    self.keras_callbacks.on_epoch_begin(run.epoch)
            self._run_steps(order, position)
            run.hook.expfw_steps_ended(run=run)
            ends_epoch = run.step % self.steps_per_epoch == 0
            every, is_last = self.config.evaluate_every, run.step == self.total_steps
            is_due = ends_epoch and every.epochs is not None and (epoch + 1) % every.epochs == 0
            if every.steps is not None:
                is_due = run.step % every.steps == 0
            validation = self.data.validation if is_due or is_last else None
            if ends_epoch:
                run.epoch += 1
                self._log_epoch(validation is not None or is_last)
            if validation is not None:
                self._validate(validation)
            if ends_epoch:
                self.keras_callbacks.on_epoch_end(run.epoch - 1)
                run.hook.expfw_epoch_ended(run=run)
            if run.test_on == "best" and run.best_step == run.step:
                with self._averaged_weights():
                    weights = model_arrays.collect_variables(self.model, training=False)
                    self._best_weights = run.step, model_arrays.make_model_state(weights).arrays
            run.safe_point(is_interrupted)
        self.keras_callbacks.on_train_end()
        self._test()
        return run.result()

    def state(self) -> ModelState:
        """Returns the state to resume from: variables, best weights, sums of the current epoch, random states."""
        step, best_arrays = self._best_weights or (None, {})
        model_state = model_arrays.make_model_state(self._collect_variables())
        callback_state = self.keras_callbacks.state()
        generator, keys, *others = np.random.get_state(legacy=True)
        arrays = {
            **model_state.arrays,
            **{name.replace("weights/", "best/"): array for name, array in best_arrays.items()},
            **{f"keras_callbacks/{name}": array for name, array in callback_state.arrays.items()},
        }
        values = {
            "steps_per_epoch": self.steps_per_epoch,
            "seed": self.run.config.seed,
            "best": step,
            "since_log": dataclasses.asdict(self._log_means),
            "since_epoch": dataclasses.asdict(self._epoch_means),
            "learning_rate": self._learning_rate,
            "keras_callbacks": callback_state.values,
            "random": {"numpy": [generator, list(map(int, keys)), *others], "python": random.getstate()},  # global
        }
        return ModelState(arrays, values, model_state.names)

    def restore(self, state: ModelState) -> None:
        """Restores a state that `state` returned; rejects one of another seed or number of steps per epoch."""
        values = state.values
        for name, value in {"steps_per_epoch": self.steps_per_epoch, "seed": self.run.config.seed}.items():
            if values[name] != value:
                raise ConfigError(
                    f"the checkpoint has {name}={values[name]}, this training has {value}; expected the same data, "
                    "train.batch_size and seed, because the order of the samples depends on them"
                )
        other_prefixes = ("best/", "keras_callbacks/")
        arrays = {name: array for name, array in state.arrays.items() if not name.startswith(other_prefixes)}
        model_arrays.assign_arrays(self._collect_variables(), arrays)
        if values["best"] is not None:
            self._best_weights = values["best"], {f"weights/{n}": array for n, array in state.part("best").items()}
        self._log_means = RunningMeans(**copy.deepcopy(values["since_log"]))
        self._epoch_means = RunningMeans(**copy.deepcopy(values["since_epoch"]))
        self._learning_rate = values["learning_rate"]
        if values["keras_callbacks"] is not None:
            self.keras_callbacks.restore(ModelState(state.part("keras_callbacks"), values["keras_callbacks"]))
        generator, keys, *others = values["random"]["numpy"]
        np.random.set_state((generator, np.array(keys, np.uint32), *others))
        version, internal_state, next_gauss = values["random"]["python"]
        random.setstate((version, tuple(internal_state), next_gauss))

    def _collect_variables(self) -> dict[str, Any]:
        averages = self.update.averages if self.update else ()
        return model_arrays.collect_variables(self.model, training=True, averages=averages)

    def _restore_checkpoint(self) -> None:
        """Resumes this run, or loads the checkpoint in `train.begin_from`."""
        run, folder = self.run, self.config.begin_from
        if run.checkpoint is not None:
            checkpoint, run.checkpoint = run.checkpoint, None
            run.hook.expfw_restore(model=self.model, state=checkpoint.model, training=True)
        elif folder is not None:
            try:
                checkpoint = read_checkpoint(Path(folder))
            except JournalError as error:
                raise ConfigError(f"train.begin_from={folder}: {error}") from error
            values = {**checkpoint.model.values, "best": None, "keras_callbacks": None}
            state = dataclasses.replace(checkpoint.model, values=values)
            run.hook.expfw_restore(model=self.model, state=state, training=True)
            if checkpoint.step >= self.total_steps:
                raise ConfigError(
                    f"train.begin_from={folder} is at step {checkpoint.step} and this training ends at step "
                    f"{self.total_steps}; increase train.epochs or train.steps"
                )
            run.step, run.epoch = checkpoint.step, checkpoint.step // self.steps_per_epoch
            run.message(f"starts at step {run.step}, from {folder}")

    def _agree_with_workers(self) -> bool | None:
        """Agrees with all workers on the next call of the loop; if they decided separately, some would wait forever.

        Worker 0 decides the maximum number of steps, from its clock. Any worker can stop or interrupt the run, for
        example from a callback. Returns whether an interrupt ends all processes after the next call; None for other
        strategies, which have one process.
        """
        run = self.run
        if not isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return None
        is_chief = self.strategy.extended._is_chief  # the public resolver does not know it without a chief task
        own_steps = self._steps_per_call if is_chief else 0
        own_values = tf.constant([own_steps, run.is_stopping, run.pruned, run.interrupt_requested], tf.float32)
        agreed_steps, stopping, pruned, interrupted = self._sum_over_workers(own_values).numpy()
        if stopping and not run.is_stopping:
            if pruned:
                run.prune("pruned by another worker")
            else:
                run.request_stop("stopped by another worker")
        # The sum contains the steps once per replica of worker 0.
        self._steps_per_call = int(agreed_steps) // self.loop.slicer.replicas_per_process
        return bool(interrupted)

    def _run_steps(self, order: np.ndarray, position: int) -> None:
        """Runs the next call of the loop, at most up to the next evaluation, requested hook or end of the epoch."""
        run = self.run
        ends = [run.step + self._steps_per_call, self.total_steps, run.step - position + self.steps_per_epoch]
        if (every := self.config.evaluate_every.steps) is not None:
            ends.append((run.step // every + 1) * every)
        if (hook_step := run.next_hook_step()) is not None:
            ends.append(hook_step)
        count = int(min(ends) - run.step)
        if self.keras_callbacks.needs_every_step:
            self.keras_callbacks.on_train_batch_begin(position)
        started_at = time.perf_counter()
        with run.stage(self._stage):
            values = self.loop.run(self.data.train, order, position, count)
        seconds, self._stage = time.perf_counter() - started_at, "training"
        if not self.keras_callbacks.needs_every_step:
            fitting_steps = count * TARGET_CALL_SECONDS / seconds
            self._steps_per_call = int(np.clip(fitting_steps, self._steps_per_call // 2 + 1, self._steps_per_call * 8))
        self._log_values(values, count)
        losses = values.losses
        if not np.isfinite(losses).all():
            index = int(np.argmin(np.isfinite(losses)))
            step = run.step + index
            advice = "try a smaller learning rate" if step else "check the data and the initial weights"
            hint = f" (earlier checkpoints: {run.folder}/checkpoints)" if checkpoint_steps(run.folder) else ""
            raise TrainingError(f"the loss is {losses[index]} at step {step}; {advice}{hint}")
        run.step += count
        self.keras_callbacks.end_steps(values, position)

    def _log_values(self, values: StepValues, count: int) -> None:
        """Logs the steps that are multiples of `train.log_every`; keeps the values after the last one for later."""
        run, every, begin, losses = self.run, self.config.log_every, 0, values.losses
        self._epoch_means.add(values)
        if every == 1 and all(counts.all() for counts in values.counts.values()):  # the same, many times faster
            columns = {name: total / values.counts[name] for name, total in values.totals.items()} | values.last_values
            run.log_steps({f"train/{name}": column for name, column in columns.items()}, step=run.step)
            return
        for index in range(-run.step % every, count, every):
            self._log_means.add(values, begin, index + 1)
            point = self._log_means.take("train/")
            point["train/loss"] = float(losses[index])
            run.log(point, step=run.step + index)
            begin = index + 1
        self._log_means.add(values, begin)

    def _log_epoch(self, is_required: bool) -> None:
        """Logs the means of the epoch, after the first epochs only about every `train.log_every` steps."""
        run, values = self.run, self._epoch_means.take("train/epoch_")
        rate = self.trainable.get_learning_rate()
        if rate is not None and rate != self._learning_rate:  # logged after its first change
            self._learning_rate = None
            values["train/learning_rate"] = rate
        interval = max(1, self.config.log_every // self.steps_per_epoch)
        if is_required or run.epoch <= _DENSE_EPOCHS or run.epoch % interval == 0:
            run.log(values)
        else:
            run.metrics.update(values)

    def _validate(self, validation: Split) -> None:
        run = self.run
        with self._averaged_weights():
            self.keras_callbacks.on_test_begin()
            with run.stage("evaluating"):
                means = self.trainable.evaluate(validation)
            run.log({f"val/{name}": value for name, value in means.items()})
            self.keras_callbacks.on_test_end(means)
        run.hook.expfw_evaluated(run=run)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Within the context, the model has the averages of its weights, if it keeps any."""
        swap = self.update.swap_averages if self.update is not None else lambda: None
        swap()
        yield
        swap()

    def _test(self) -> None:
        run = self.run
        if self._best_weights is not None:
            run.model_step, arrays = self._best_weights
            model_arrays.assign_arrays(model_arrays.collect_variables(self.model, training=False), arrays)
            if run.model_step != run.step:
                run.message(f"the best weights, from step {run.model_step}, are tested and saved")
        elif self.update is not None:  # averages, of `train.average` or Keras `use_ema`, replace the weights
            self.update.swap_averages()
            self.update.optimizer.finalize_variable_values(self.update.model_variables)
        if self.data.test is not None and not run.pruned:
            with run.stage("testing"):
                means = self.trainable.evaluate(self.data.test)
            run.log({f"test/{name}": value for name, value in means.items()}, run.model_step)
