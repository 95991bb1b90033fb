"""Contract of a backend."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from expfw.api.contracts import Backend, Plugin
from expfw.api.data import get_named_parts
from expfw.api.model_state import ModelState
from expfw.api.result import FINISHED
from expfw.errors import JournalError
from expfw.testing.bench import Bench
from expfw.testing.contract import RunContract
from expfw.testing.observers import RunObserver


class BackendContract(RunContract):
    """The checks of a backend.

    Checks that train are skipped for a backend with several processes, and for a GPU backend without a GPU.

    Attributes:
        model: model to train: name of a model, or a model class.
        same_as: name of a backend that must produce the same losses; empty if no other backend supports the model.
    """

    base: ClassVar[type[Plugin]] = Backend
    same_as: ClassVar[str] = "tf-cpu"
    resume_remedy: ClassVar[str] = (
        "copy weights, optimizer and random states in save(training=True); if run.checkpoint is not None, start fit at "
        "its step, in the middle of that epoch, with the same order of samples"
    )

    def test_loss_decreases(self, expfw_bench: Bench) -> None:
        """The loss of the last epoch is smaller than that of the first."""
        remedy = "apply the gradients in fit, and log train/epoch_loss with run.log at the end of each epoch"
        self.check_loss_decreases(expfw_bench, self.epochs, remedy)

    def test_calls_hooks_in_order(self, expfw_bench: Bench) -> None:
        """Observing hooks are called in order in each epoch, and at a step requested with `run.call_hooks_at`."""
        observer = RunObserver(step=3)
        expfw_bench.run("train.epochs=2", observer=observer)
        names = ("steps_ended", "evaluated", "epoch_ended", "safe_point")
        per_epoch = [(name, step) for step in (4, 8) for name in names]
        expected = [("run_started", 0), ("steps_ended", 3), ("safe_point", 3), *per_epoch, ("run_ended", 8)]
        missing = [call for call in expected if call not in observer.calls]
        actual = [call for call in observer.calls if call in expected]
        if missing or actual != expected:
            problem = f"{missing[0]} is missing" if missing else f"the order is {actual}"
            expfw_bench.fail(
                f"it does not call the observing hooks as expected for two epochs of four steps: {problem}",
                "after each call of the framework, call run.hook.expfw_steps_ended(run=run); at the end of an epoch, "
                "evaluate and call expfw_evaluated and expfw_epoch_ended; then call run.safe_point(); end each call of "
                "the framework at step run.next_hook_step() at the latest",
            )

    def test_stops_on_request(self, expfw_bench: Bench) -> None:
        """A run ends with status FINISHED at the step at which a stop is requested."""
        observer = RunObserver(step=6, action=lambda run: run.request_stop("requested by the contract"))
        result = expfw_bench.run(observer=observer)
        if (result.status, result.steps) != (FINISHED, 6):
            expfw_bench.fail(
                f"a stop was requested at step 6, but the run ended as {result.status} at step {result.steps}",
                "check run.is_stopping after each observing hook, and stop the training if it is true",
            )

    def test_describes_the_model(self, expfw_bench: Bench) -> None:
        """The number of parameters matches the variables, and a prediction returns one output per sample."""
        bench = expfw_bench
        bench.run()
        config = bench.make_config()
        hook, data, model = bench.build_model(config)
        size = sum(int(np.size(array)) for array in hook.expfw_variables(model=model).values())
        counts = {
            "describe": hook.expfw_describe(model=model).get("parameters"),
            "summary": hook.expfw_summary(config=config, model=model, data=data).parameters,
        }
        for method, count in counts.items():
            if count != size:
                bench.fail(
                    f"{method} returns {count} parameters, but variables has {size} elements",
                    f"count the trainable elements as 'parameters' in {method}, and return all trainable variables in "
                    "variables",
                )
        x = data.train.take(slice(5)).x
        for output in get_named_parts(hook.expfw_predict(model=model, x=x)).values():
            if not isinstance(output, np.ndarray) or output.shape[:1] != (5,):
                problem = f"predict returns {type(output).__name__} {np.shape(output)} for 5 samples"
                bench.fail(problem, "return a NumPy array with one row per sample")

    def test_saved_state_is_restored(self, expfw_bench: Bench) -> None:
        """A model with restored state makes the same predictions as the trained model."""
        remedy = "copy all weights to arrays named weights/... in save, and assign each of them in restore"
        self.check_saved_predictions(expfw_bench, remedy)

    def test_rejects_the_state_of_another_model(self, expfw_bench: Bench) -> None:
        """A state with arrays of other shapes is rejected completely."""
        bench = expfw_bench
        bench.run()
        hook, _, model = bench.build_model(bench.make_config())
        state = hook.expfw_save(model=model, training=False)
        smaller_state = ModelState({name: array[..., :-1] for name, array in state.arrays.items()})
        reaction = "raises nothing"
        try:
            hook.expfw_restore(model=model, state=smaller_state, training=False)
        except JournalError:
            return
        except Exception as error:
            reaction = f"raises {type(error).__name__} ({error})"
        remedy = "compare names and shapes in restore, and raise expfw.JournalError if they differ"
        bench.fail(f"restore {reaction} for the state of another model", remedy)

    def test_matches_another_backend(self, expfw_bench: Bench) -> None:
        """The losses are equal to those of `same_as`, except for rounding."""
        bench = expfw_bench
        if not self.same_as or self.same_as == bench.entry.name:
            pytest.skip(f"{bench.label} is not compared with another backend (same_as)")
        own_folder = bench.run().folder
        remedy = (
            "derive the order of samples only from (seed, epoch), weight the parts of a batch by their number of "
            "samples, and seed initial weights with config.seed in prepare; or set same_as = '' to skip this check"
        )
        other_folder = bench.run(f"backend={self.same_as}").folder
        self.check_same_losses(bench, other_folder, own_folder, f"than {self.same_as}", remedy)
