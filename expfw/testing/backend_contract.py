"""Contract of a backend."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from expfw.api.contracts import Backend, Model, Plugin
from expfw.api.data import get_named_parts
from expfw.api.model_state import ModelState
from expfw.api.result import FINISHED
from expfw.errors import JournalError
from expfw.testing.bench import Bench, read_run_points
from expfw.testing.failure import fail
from expfw.testing.observers import HookRecorder
from expfw.testing.run_contract import RunContract, read_metric


class BackendContract(RunContract):
    """The checks of a backend.

    Checks that train are skipped for a backend with several processes, and for a GPU backend without a GPU.

    Attributes:
        model: model to train: name of a model, or a model class.
        same_as: name of a backend that must produce the same losses; empty if no other backend supports the model.
    """

    base: ClassVar[type[Plugin]] = Backend
    model: ClassVar[str | type[Model]] = "mlp_keras"
    same_as: ClassVar[str] = "tf-cpu"

    @classmethod
    def needs_several_processors(cls) -> bool:
        return not (issubclass(cls.plugin, Backend) and cls.plugin.on_gpus)

    def select_plugins(self, bench: Bench) -> list[str]:
        model = self.model if isinstance(self.model, str) else bench.get_plugin_name(self.model)
        return [f"model={model}", "callback=[checkpoint]", *bench.select_plugin()]

    def test_loss_decreases(self, expfw_bench: Bench) -> None:
        """The loss of the last epoch is smaller than that of the first."""
        losses = read_metric(expfw_bench.run())
        if not (np.isfinite(losses).all() and len(losses) == self.epochs and losses[-1] < losses[0]):
            loss_history = ", ".join(f"{loss:.4g}" for loss in losses) or "never logged"
            fail(
                f"{expfw_bench.plugin_label} does not decrease the loss: train/epoch_loss was {loss_history} in "
                f"{self.epochs} epochs",
                "apply the gradients in fit, and log train/epoch_loss with run.log at the end of each epoch",
            )

    def test_calls_hooks_in_order(self, expfw_bench: Bench) -> None:
        """Observing hooks are called in order in each epoch, and at a step requested with `run.call_hooks_at`."""
        bench, recorder = expfw_bench, HookRecorder()
        bench.run("train.epochs=2", observers=[recorder])
        names = ("steps_ended", "evaluated", "epoch_ended", "safe_point")
        per_epoch = [(name, step) for step in (4, 8) for name in names]
        expected = [("run_started", 0), ("steps_ended", 3), ("safe_point", 3), *per_epoch, ("run_ended", 8)]
        missing = [call for call in expected if call not in recorder.calls]
        actual = [call for call in recorder.calls if call in expected]
        if missing or actual != expected:
            problem = f"{missing[0]} is missing" if missing else f"the order is {actual}"
            fail(
                f"{bench.plugin_label} does not call the observing hooks as expected for two epochs of four steps: "
                f"{problem}",
                "after each call of the framework, call run.hook.expfw_steps_ended(run=run); at the end of an epoch, "
                "evaluate and call expfw_evaluated and expfw_epoch_ended; then call run.safe_point(); end each call of "
                "the framework at step run.next_hook_step() at the latest",
            )

    def test_stops_on_request(self, expfw_bench: Bench) -> None:
        """A run ends with status FINISHED at the step at which a stop is requested."""
        result = expfw_bench.run(observers=[HookRecorder(stop_at=6)])
        if (result.status, result.steps) != (FINISHED, 6):
            fail(
                f"{expfw_bench.plugin_label}: a stop was requested at step 6, but the run ended as {result.status} at "
                f"step {result.steps}",
                "check run.is_stopping after each observing hook, and stop the training if it is true",
            )

    def test_describes_the_model(self, expfw_bench: Bench) -> None:
        """The number of parameters matches the variables, and a prediction returns one output per sample."""
        bench = expfw_bench
        bench.run()
        hook, data, model = bench.build_model(bench.make_config())
        properties, variables = hook.expfw_describe(model=model), hook.expfw_variables(model=model)
        size = sum(int(np.size(array)) for array in variables.values())
        if properties.get("parameters") != size:
            fail(
                f"{bench.plugin_label}: describe returns {properties.get('parameters')} parameters, but variables has "
                f"{size} elements",
                "return the number of trainable elements as 'parameters' in describe, and all trainable variables in "
                "variables",
            )
        summary = hook.expfw_summary(config=bench.make_config(), model=model, data=data)
        if summary.parameters != size:
            fail(
                f"{bench.plugin_label}: summary returns {summary.parameters} parameters, but variables has {size} "
                "elements",
                "count trainable parameters as `parameters` in summary, and all others as `fixed`",
            )
        x = data.train.take(slice(5)).in_memory().x
        for output in get_named_parts(hook.expfw_predict(model=model, x=x)).values():
            if not isinstance(output, np.ndarray) or output.shape[:1] != (5,):
                fail(
                    f"{bench.plugin_label}: predict returns {type(output).__name__} {np.shape(output)} for 5 samples",
                    "return a NumPy array with one row per sample",
                )

    def test_saved_state_is_restored(self, expfw_bench: Bench) -> None:
        """A model with restored state makes the same predictions as the trained model."""
        bench = expfw_bench
        expected, actual = bench.make_predictions()
        for name, output in get_named_parts(expected).items():
            if not np.allclose(output, get_named_parts(actual)[name], rtol=1e-5, atol=1e-6):
                fail(
                    f"{bench.plugin_label}: the predictions of the saved and the trained model differ",
                    "copy all weights to arrays named weights/... in save, and assign each of them in restore",
                )

    def test_rejects_the_state_of_another_model(self, expfw_bench: Bench) -> None:
        """A state with arrays of other shapes is rejected completely."""
        bench = expfw_bench
        bench.run()
        hook, _, model = bench.build_model(bench.make_config())
        state = hook.expfw_save(model=model, training=False)
        smaller_state = ModelState({name: array[..., :-1] for name, array in state.arrays.items()})
        try:
            hook.expfw_restore(model=model, state=smaller_state, training=False)
        except JournalError:
            return
        except Exception as error:
            reaction = f"raises {type(error).__name__} ({error})"
        else:
            reaction = "raises nothing"
        remedy = "compare names and shapes in restore, and raise expfw.JournalError if they differ"
        fail(f"{bench.plugin_label}: restore {reaction} for the state of another model", remedy)

    def test_matches_another_backend(self, expfw_bench: Bench) -> None:
        """The losses are equal to those of `same_as`, except for rounding."""
        bench = expfw_bench
        if not self.same_as or self.same_as == bench.entry.name:
            bench.skip(f"{bench.plugin_label} is not compared with another backend (same_as)")
        actual, expected = read_run_points(bench.run().folder), read_run_points(bench.run_on_backend(self.same_as))
        self.check_same_losses(
            bench,
            expected,
            actual,
            f"than {self.same_as}",
            "derive the order of samples only from (seed, epoch), weight the parts of a batch by their number of "
            "samples, and seed initial weights with config.seed in prepare; or set same_as = '' to skip this check",
        )

    def get_resume_remedy(self) -> str:
        return (
            "copy weights, optimizer and random states in save(training=True); if run.checkpoint is not None, start "
            "fit at its step, in the middle of that epoch, with the same order of samples"
        )
