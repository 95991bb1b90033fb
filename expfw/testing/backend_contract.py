"""What a backend promises."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from expfw.api.contracts import Backend, Model, Plugin
from expfw.api.data import get_named_parts
from expfw.api.model_state import ModelState
from expfw.api.run import FINISHED
from expfw.errors import JournalError
from expfw.testing.bench import Bench, read_run_points
from expfw.testing.failure import fail
from expfw.testing.observers import HookRecorder
from expfw.testing.run_contract import RunContract, read_metric


class BackendContract(RunContract):
    """The checks of a backend. One for several processes, or for GPUs where there are none, skips those that train.

    Attributes:
        model: what it trains: the name of a model, or a model class.
        same_as: a backend whose losses it must have; empty where there is none for such models.
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

    def test_loss_falls(self, expfw_bench: Bench) -> None:
        """Training makes the loss of an epoch smaller."""
        losses = read_metric(expfw_bench.run())
        if not (np.isfinite(losses).all() and len(losses) == self.epochs and losses[-1] < losses[0]):
            loss_history = ", ".join(f"{loss:.4g}" for loss in losses) or "never logged"
            fail(
                f"{expfw_bench.plugin_label} does not make the loss fall: train/epoch_loss was {loss_history} in "
                f"{self.epochs} epochs",
                "apply the gradients in fit, and log train/epoch_loss by run.log at the end of each epoch",
            )

    def test_calls_the_hooks_in_order(self, expfw_bench: Bench) -> None:
        """Observing hooks come in their order in each epoch, and at a step that somebody asked for."""
        bench, recorder = expfw_bench, HookRecorder()
        bench.run("train.epochs=2", observers=[recorder])
        per_epoch = [(name, step) for step in (4, 8) for name in ("steps_ended", "evaluated", "epoch_ended", "settled")]
        expected = [("run_started", 0), ("steps_ended", 3), ("settled", 3), *per_epoch, ("run_ended", 8)]
        missing = [call for call in expected if call not in recorder.calls]
        actual = [call for call in recorder.calls if call in expected]
        if missing or actual != expected:
            problem = f"it never comes to {missing[0]}" if missing else f"their order is {actual}"
            fail(
                f"{bench.plugin_label} does not call the observing hooks as it should, for two epochs of four "
                f"steps: {problem}",
                "after each call of the framework: run.hook.expfw_steps_ended(run=run), at an epoch's end after "
                "evaluating expfw_evaluated and expfw_epoch_ended, then run.safe_point(); end a call at "
                "run.next_hook_step()",
            )

    def test_stops_when_asked(self, expfw_bench: Bench) -> None:
        """A run that somebody asked to stop ends there, as FINISHED."""
        result = expfw_bench.run(observers=[HookRecorder(stop_at=6)])
        if (result.status, result.steps) != (FINISHED, 6):
            fail(
                f"{expfw_bench.plugin_label} was asked to stop at step 6 and ended as {result.status} at step "
                f"{result.steps}",
                "look at run.is_stopping after each observing hook, and end the training there",
            )

    def test_tells_about_the_model(self, expfw_bench: Bench) -> None:
        """It counts parameters, gives variables by name, and predicts as many outputs as there are samples."""
        bench = expfw_bench
        bench.run()
        hook, data, model = bench.build_model(bench.make_config())
        facts, variables = hook.expfw_describe(model=model), hook.expfw_variables(model=model)
        size = sum(int(np.size(array)) for array in variables.values())
        if facts.get("parameters") != size:
            fail(
                f"{bench.plugin_label}: describe says {facts.get('parameters')} parameters, variables has {size} "
                "elements",
                "let describe return the number of trained elements under 'parameters', and variables all trained ones",
            )
        summary = hook.expfw_summary(config=bench.make_config(), model=model, data=data)
        if summary.parameters != size:
            fail(
                f"{bench.plugin_label}: summary says {summary.parameters} parameters, variables has {size} elements",
                "let summary count what is trained in `parameters`, and the rest in `fixed`",
            )
        x = data.train.take(slice(5)).in_memory().x
        for output in get_named_parts(hook.expfw_predict(model=model, x=x)).values():
            if not isinstance(output, np.ndarray) or output.shape[:1] != (5,):
                fail(
                    f"{bench.plugin_label}: predict gives {type(output).__name__} {np.shape(output)} for 5 samples",
                    "return a NumPy array whose first axis is that of the samples",
                )

    def test_saved_state_is_taken_back(self, expfw_bench: Bench) -> None:
        """A model that takes back what was saved predicts the same."""
        bench = expfw_bench
        expected, actual = bench.make_predictions()
        for name, output in get_named_parts(expected).items():
            if not np.allclose(output, get_named_parts(actual)[name], rtol=1e-5, atol=1e-6):
                fail(
                    f"the model that {bench.plugin_label} saved predicts something else than the trained one",
                    "let save copy all weights into arrays named weights/..., and restore assign each of them",
                )

    def test_refuses_the_state_of_another_model(self, expfw_bench: Bench) -> None:
        """State whose arrays have other shapes is refused, not taken in part."""
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
            reaction = "says nothing"
        remedy = "let restore compare names and shapes, and raise expfw.JournalError where they are others"
        fail(f"{bench.plugin_label} is given the state of another model to restore and {reaction}", remedy)

    def test_same_as_another_backend(self, expfw_bench: Bench) -> None:
        """The losses are those of `same_as`, as far as rounding goes."""
        bench = expfw_bench
        if not self.same_as or self.same_as == bench.entry.name:
            bench.skip(f"{bench.plugin_label} is compared with no other backend (same_as)")
        actual, expected = read_run_points(bench.run().folder), read_run_points(bench.run_on_backend(self.same_as))
        self.check_same_losses(
            bench,
            expected,
            actual,
            f"than {self.same_as}",
            "take the order of samples from (seed, epoch) alone, weight the parts of a batch by their samples, and "
            "seed initial weights by config.seed in prepare; or set same_as = '' where there is no other",
        )

    def get_resume_remedy(self) -> str:
        return (
            "let save(training=True) keep weights, optimizer and random states, and fit begin from run.checkpoint "
            "where it is given: at its step, in the middle of that epoch, with the same order of samples"
        )
